"""The paper exchange: accepts orders, cancels and replaces, and reports as a platform would, faults included.

Pure: times and quotes go in, reports come out; no clock, socket, file or randomness except by seed. The `book` changes
at once; reports of the change may be late, repeated, out of order or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from ...core.messages import (
    Cancel,
    Instrument,
    LegState,
    Order,
    OrderRole,
    Reject,
    RejectCode,
    Replace,
    Side,
    Snapshot,
    SnapshotRequest,
    find_client_order_id,
)
from ...shm.durations import NS_PER_DAY, NS_PER_MS
from .aftermath import Aftermath
from .book import PaperBook, PaperFunds
from .entry import make_order, refuse_order, refuse_replace
from .matching import Quote
from .reports import make_account, make_snapshot, state_while_live, unrealized_result
from .rolled import rename_rolled
from .scenarios import AS_IT_SHOULD, SCENARIOS, Plan, choose_scenario, fraction
from .settings import PaperSettings
from .timeline import Report, Timeline
from .trading import TradingFloor

_ENTRIES: Final = (OrderRole.ENTRY, OrderRole.HEDGE, OrderRole.ROLL)
_PROTECTIVE: Final = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)


def new_book(platform: str, settings: PaperSettings, now_ns: int) -> PaperBook:
    """Return the book of a new account."""
    return PaperBook(
        funds=PaperFunds(
            book_id=f"{now_ns // NS_PER_MS:x}",
            mode=settings.account_mode(platform),
            currency=settings.account_currency(platform),
            balance=settings.balance,
        )
    )


class PaperExchange:
    """One account at one simulated platform. Used by one thread.

    Attributes:
        book: the state of the account.
        timeline: pending actions and reports; when `is_dead` is set, the caller must end its process.
    """

    def __init__(
        self,
        platform: str,
        account: str,
        settings: PaperSettings,
        instruments: Mapping[str, Instrument],
        book: PaperBook,
    ) -> None:
        """
        Args:
            instruments: by symbol, each with tick size and lot step. The mapping is kept: the caller may update it.
            book: a new one, or that of a former process; it is kept and changed.
        """
        self.book = book
        self.timeline = Timeline(platform, account)
        self._settings = settings
        self._mode = settings.account_mode(platform)
        self._currency = settings.account_currency(platform)
        self._instruments = instruments
        self._last_arrival_ns = 0
        self._floor = TradingFloor(self.timeline, book, settings, instruments)
        self._aftermath = Aftermath(self.timeline, book, self._floor)
        for order in book.orders.values():
            if order.live:
                # The scenario has killed a process already; if it killed each next one, none would ever start.
                order.plan = msgspec.structs.replace(order.plan, dies="")
                self._floor.add_live(order)

    def place(self, order: Order, now_ns: int) -> None:
        """Accept an order; it arrives after the simulated latency."""
        self._send(order.client_order_id, lambda at_ns: self._accept(order, at_ns), now_ns)

    def cancel(self, cancel: Cancel, now_ns: int) -> None:
        """Accept a cancel; apply it after the simulated latency."""
        self._send(cancel.client_order_id, lambda at_ns: self._cancel(cancel, at_ns), now_ns)

    def replace(self, replace: Replace, now_ns: int) -> None:
        """Accept a replace; apply it after the simulated latency."""
        self._send(replace.client_order_id, lambda at_ns: self._replace(replace, at_ns), now_ns)

    def snapshot(self, request: SnapshotRequest, now_ns: int) -> Snapshot:
        """Return the state at `now_ns`."""
        self.advance(now_ns)
        funds = make_account(request.platform, request.account, self._currency, self.book, self._unrealized, now_ns)
        return make_snapshot(request, self.book, self._mode, funds, now_ns)

    def set_quote(self, symbol: str, quote: Quote | None, now_ns: int) -> None:
        """Set a symbol's quote; None = there is no price to trade on."""
        self.advance(now_ns)
        self._floor.set_quote(symbol, quote, now_ns)

    def symbols_with_orders(self) -> set[str]:
        """Symbols with live orders: the only ones whose quotes are needed."""
        return self._floor.symbols_with_orders()

    def apply_rolls(self) -> None:
        """Apply changed contracts of the instruments: rows of a rolled contract get that contract's own name."""
        renamed = rename_rolled(self.book, self._instruments)
        if renamed:
            self._floor.rename_symbols(renamed)
            self.timeline.rename_symbols(renamed)

    def advance(self, now_ns: int) -> None:
        """Run everything that is due: arrivals, unsolicited cancels, busts, expiries, the end of the day."""
        self.timeline.run_due(now_ns)
        funds = self.book.funds
        if now_ns < funds.day_ends_ns:
            return
        if funds.day_ends_ns:
            self._floor.expire_day_orders(now_ns)
        open_result = self._unrealized()
        funds.day_start_equity = None if open_result is None else funds.balance + open_result
        funds.realized_today = Decimal(0)
        funds.day_ends_ns = self._settings.next_day_end_ns(now_ns)
        self.book.touch_funds()
        if self._settings.keep_days is not None:
            self.book.drop_before(now_ns - self._settings.keep_days * NS_PER_DAY)

    def follow_step(self, step_ns: int) -> None:
        """The wall clock was set by `step_ns`: what is on its way arrives as it would have without the step."""
        self._last_arrival_ns += step_ns
        self.timeline.follow_step(step_ns)
        for order in self.book.orders.values():
            if order.live and order.fill_from_ns:
                order.fill_from_ns += step_ns

    def pop_reports(self, now_ns: int) -> list[Report]:
        """Remove and return the reports that are due, in order of delivery."""
        return self.timeline.pop_reports(now_ns)

    @property
    def next_due_ns(self) -> int:
        """Time of the next work for `advance` or `pop_reports`, UTC ns."""
        due_ns = self.timeline.next_due_ns()
        return self.book.funds.day_ends_ns if due_ns is None else min(due_ns, self.book.funds.day_ends_ns)

    def place_external(
        self,
        symbol: str,
        side: Side,
        lots: Decimal,
        now_ns: int,
        *,
        limit_price: Decimal | None = None,
        close_ticket: str = "",
    ) -> None:
        """Place an external order: a market order unless it has a `limit_price`."""
        self._aftermath.place_external(symbol, side, lots, now_ns, limit_price=limit_price, close_ticket=close_ticket)

    def flatten(self, now_ns: int) -> None:
        """Cancel all orders and close all positions, as a platform's own command does; a paper account offers none."""
        self.advance(now_ns)
        self._aftermath.flatten(now_ns)

    def _send(self, tag: str, action: Callable[[int], None], now_ns: int) -> None:
        settings = self._settings
        latency_ms = settings.latency_ms
        if settings.jitter_ms:
            latency_ms += settings.jitter_ms * fraction(settings.seed, f"late/{tag}")
        # As on one connection, later commands never arrive before earlier ones, whatever the jitter.
        self._last_arrival_ns = max(self._last_arrival_ns, now_ns + int(latency_ms * NS_PER_MS))
        self.timeline.schedule(self._last_arrival_ns, action)
        self.advance(now_ns)

    def _accept(self, order: Order, now_ns: int) -> None:
        known = self.book.by_client_id.get(order.client_order_id)
        # The same client order id again: report the order, place nothing.
        if known is not None:
            self.timeline.report_order(known, now_ns)
            return
        plan = self._plan(order)
        if plan.lost:
            return
        if plan.dies == "before_accept":
            self.timeline.die()
            return
        instrument = self._instruments.get(order.symbol)
        text = self.book.refused.get(order.client_order_id, "")
        text = text or refuse_order(order, plan, instrument, self.book, self._mode, now_ns)
        if text:
            self.book.refuse(order.client_order_id, text)
            self._reject(order.client_order_id, RejectCode.PLATFORM_REJECTED, text, plan, now_ns)
            return
        accepted = make_order(order, plan, self.book, now_ns)
        self.timeline.drop_reports_until(now_ns + plan.mute_ms * NS_PER_MS)
        self.timeline.report_order(accepted, now_ns, delay_ms=plan.ack_after_ms)
        if plan.dies == "after_accept":
            self.timeline.die()
            return
        if plan.cancelled_after_ms:
            self.timeline.schedule(
                now_ns + plan.cancelled_after_ms * NS_PER_MS,
                lambda at_ns: self._floor.end(accepted, LegState.CANCELLED, at_ns, "cancelled by the platform"),
            )
        self._floor.match_new(accepted, now_ns)

    def _cancel(self, cancel: Cancel, now_ns: int) -> None:
        order = self.book.by_client_id.get(cancel.client_order_id) or self.book.orders.get(cancel.platform_order_id)
        plan = AS_IT_SHOULD if order is None else order.plan
        if order is not None and order.live and not plan.reject_cancel:
            if plan.fill_on_cancel:
                self._floor.trade_in_full(order, now_ns)
            if order.live:
                self.timeline.schedule(
                    now_ns + plan.late_cancel_ms * NS_PER_MS,
                    lambda at_ns: self._floor.end(order, LegState.CANCELLED, at_ns),
                )
                return
        text = "no such order" if order is None else f"the order is {order.state}"
        self._reject(cancel.client_order_id, RejectCode.CANCEL_REJECTED, text, plan, now_ns)

    def _replace(self, replace: Replace, now_ns: int) -> None:
        order = self.book.by_client_id.get(replace.client_order_id)
        plan = AS_IT_SHOULD if order is None else order.plan
        if order is not None and plan.fill_on_replace:
            self._floor.trade_in_full(order, now_ns)
        text = refuse_replace(replace, order, self._instruments)
        if order is None or text:
            code = RejectCode.REPLACE_REJECTED
            self._reject(replace.client_order_id, code, text, plan, now_ns, replace.revision)
            return
        order.quantity = replace.quantity
        if (order.limit_price, order.stop_price) != (replace.limit_price, replace.stop_price):
            # A new price is a new arrival: a limit moved through the market trades at the quote, not at its own price,
            # and a stop moved away waits for its trigger again.
            order.resting = False
            order.triggered = order.triggered and order.stop_price == replace.stop_price
            order.limit_price, order.stop_price = replace.limit_price, replace.stop_price
        order.state = state_while_live(order)
        self.book.touch_order(order)
        self.timeline.report_order(order, now_ns, revision=replace.revision)
        self._floor.try_trade(order, now_ns)

    def _reject(
        self, client_order_id: str, code: RejectCode, text: str, plan: Plan, now_ns: int, revision: int = 0
    ) -> None:
        reject = Reject(
            code=code,
            text=text,
            client_order_id=client_order_id,
            platform=self.timeline.platform,
            account=self.timeline.account,
            replace_revision=revision,
        )
        self.timeline.report(reject, plan, now_ns)

    def _plan(self, order: Order) -> Plan:
        parts = find_client_order_id(order.client_order_id)
        settings = self._settings
        name = choose_scenario(
            order.client_order_id,
            order.quantity,
            is_entry=parts is None or parts.role in _ENTRIES,
            is_protective=parts is not None and parts.role in _PROTECTIVE,
            rehearse=settings.rehearse,
            every_order=settings.scenario,
            chances=settings.chances,
            seed=settings.seed,
        )
        return SCENARIOS[name][1] if name else AS_IT_SHOULD

    def _unrealized(self) -> Decimal | None:
        return unrealized_result(self.book, self._floor.closing_price, self._floor.point_value)
