"""Pending actions and reports of the paper platform, ordered by time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from msgspec import structs

from ...core.messages import Correction, Fill, OrderUpdate, Reject
from ...shm.durations import NS_PER_MS
from .book import PaperOrder
from .reports import make_update
from .scenarios import Plan

Report = OrderUpdate | Fill | Correction | Reject
Action = Callable[[int], None]
"""Called with the time at which it is due."""


class Timeline:
    """Pending actions and reports; equal times keep their order. Kept in memory only: a crash loses what is pending.

    Attributes:
        is_dead: a scenario has ended the process; nothing is done or reported any more.
        lost_reports: number of reports dropped by `drop_reports_until`.
    """

    def __init__(self, platform: str, account: str) -> None:
        self.platform = platform
        self.account = account
        self.is_dead = False
        self.lost_reports = 0
        self._actions: list[tuple[int, int, Action]] = []
        self._reports: list[tuple[int, int, Report]] = []
        self._by_wall: set[int] = set()
        self._number = 0
        self._dropped_until_ns = 0

    def schedule(self, due_ns: int, action: Action, *, by_wall: bool = False) -> None:
        """Run an action at this time. `by_wall`: a time of the calendar, which does not move with the clock's steps."""
        self._number += 1
        if by_wall:
            self._by_wall.add(self._number)
        heapq.heappush(self._actions, (due_ns, self._number, action))

    def follow_step(self, step_ns: int) -> None:
        """Move what waits by a step of the wall clock, so that it waits as long as it would have without it."""
        self._actions = [
            (due_ns if number in self._by_wall else due_ns + step_ns, number, action)
            for due_ns, number, action in self._actions
        ]
        self._reports = [(due_ns + step_ns, number, report) for due_ns, number, report in self._reports]
        heapq.heapify(self._actions)
        self._dropped_until_ns += step_ns if self._dropped_until_ns else 0

    def run_due(self, now_ns: int) -> None:
        """Run the actions that are due, and those that become due by them."""
        while self._actions and self._actions[0][0] <= now_ns:
            due_ns, number, action = heapq.heappop(self._actions)
            self._by_wall.discard(number)
            action(due_ns)

    def report(self, report: Report, plan: Plan, now_ns: int, delay_ms: int = 0) -> None:
        """Queue a report, with the delay of its order's plan; it is lost while reports are dropped."""
        if self.is_dead:
            return
        if now_ns < self._dropped_until_ns:
            self.lost_reports += 1
            return
        self._number += 1
        due_ns = now_ns + (plan.report_after_ms + delay_ms) * NS_PER_MS
        heapq.heappush(self._reports, (due_ns, self._number, report))

    def report_order(
        self, order: PaperOrder, now_ns: int, *, revision: int = 0, text: str = "", delay_ms: int = 0
    ) -> None:
        """Queue a report of an order's current state."""
        update = make_update(self.platform, self.account, order, now_ns, revision, text)
        self.report(update, order.plan, now_ns, delay_ms)

    def pop_reports(self, now_ns: int) -> list[Report]:
        """Remove and return the reports that are due, in order of delivery."""
        due = []
        while self._reports and self._reports[0][0] <= now_ns:
            due.append(heapq.heappop(self._reports)[2])
        return due

    def rename_symbols(self, renamed: Mapping[str, str]) -> None:
        """Rename the symbols of pending reports at a roll: they are of the former contracts."""
        self._reports = [
            (due_ns, number, structs.replace(report, symbol=renamed.get(report.symbol, report.symbol)))
            if isinstance(report, OrderUpdate | Fill)
            else (due_ns, number, report)
            for due_ns, number, report in self._reports
        ]

    def next_due_ns(self) -> int | None:
        """Time of the next action or report, UTC ns; None when nothing is pending."""
        return min((queue[0][0] for queue in (self._actions, self._reports) if queue), default=None)

    def drop_reports_until(self, until_ns: int) -> None:
        """Drop all reports of what happens before this time."""
        self._dropped_until_ns = max(self._dropped_until_ns, until_ns)

    def die(self) -> None:
        """End the simulated process: drop all pending actions and reports."""
        self.is_dead = True
        self._reports.clear()
        self._actions.clear()
