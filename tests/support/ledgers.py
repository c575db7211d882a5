"""What platforms, journal and NEXUS each wrote of one run, and where they disagree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from nexus_gateway.adapters.paper.book import PaperBook
from nexus_gateway.core.messages import Fill, OrderRole, Report, Signal, find_client_order_id, signal_key

Lots = dict[tuple[str, str], Decimal]
"""Signed lots by platform and symbol; no zeros."""


def add_lots(rows: Sequence[tuple[str, str, Decimal]]) -> Lots:
    """Sum signed lots of (platform, symbol, lots)."""
    sums: Lots = defaultdict(Decimal)
    for platform, symbol, lots in rows:
        sums[platform, symbol] += lots
    return {key: lots for key, lots in sums.items() if lots}


@dataclass
class Ledgers:
    """`books`: each platform's own account. `journaled`: executions of which the gateway was told. `signals`,
    `reports`: what NEXUS has decided on, and the last word that it has heard.
    """

    books: Mapping[str, PaperBook]
    journaled: Mapping[tuple[str, str], Fill]
    signals: Mapping[str, Signal]
    reports: list[Report]

    def faults(self) -> list[str]:
        """Each disagreement as a sentence; none when nothing was lost or doubled."""
        found: list[str] = []
        entries = self._entries(found)
        found += [f"{key} was executed {count} times" for key, count in entries.items() if count > 1]
        executions = {
            (platform, each.fill.exec_id) for platform, book in self.books.items() for each in book.executions.values()
        }
        if self.journaled.keys() != executions:
            found.append(f"executions of platforms or journal alone: {sorted(self.journaled.keys() ^ executions)}")
        positions = add_lots(
            [(name, row.symbol, row.quantity) for name, book in self.books.items() for row in book.positions.values()]
        )
        fills = [(fill.platform, fill.symbol, fill.quantity * fill.side.sign) for fill in self.journaled.values()]
        legs = [(leg.platform, report.symbol, leg.open_quantity) for report in self.reports for leg in report.legs]
        for whose, lots in (("journal", add_lots(fills)), ("NEXUS", add_lots(legs))):
            if lots != positions:
                found.append(f"positions of the {whose} are {lots}, the platforms' {positions}")
        known = {
            (leg.platform, report.signal_id): leg.filled for report in self.reports for leg in report.legs if leg.filled
        }
        if known != {key: 1 for key, count in entries.items() if count}:
            found.append("NEXUS knows other fills of its signals than the platforms have")
        return found

    def _entries(self, found: list[str]) -> Counter[tuple[str, str]]:
        """How often each signal has traded on each platform."""
        owner = {signal_key(name): name for name in self.signals}
        entries: Counter[tuple[str, str]] = Counter()
        for platform, book in self.books.items():
            if len(book.orders) != len(book.by_client_id):
                found.append(f"{platform} has {len(book.orders)} orders of {len(book.by_client_id)} names")
            for order in book.orders.values():
                parts = find_client_order_id(order.client_order_id or book.orders[order.parent].client_order_id)
                if parts is None or parts.key not in owner:
                    found.append(f"{platform}: order {order.client_order_id!r} is explained by no signal")
                elif order.filled and parts.role is OrderRole.ENTRY and not order.parent:
                    entries[platform, owner[parts.key]] += 1
        return entries
