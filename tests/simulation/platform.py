"""A fake platform with its adapter: the truth that the gateway has to find out. It misbehaves as real ones do."""

from __future__ import annotations

from dataclasses import dataclass, field

from nexus_gateway.core import messages as m

from tests.simulation.book import (
    BASE,
    LIVE,
    NEW,
    OLD,
    OPENING,
    PROTECTIVE,
    SYMBOL,
    ZERO,
    Execution,
    HeldOrder,
    LegKey,
    Watcher,
)
from tests.simulation.matching import Matching
from tests.simulation.refusals import Refusals
from tests.simulation.reports import make_reject, make_snapshot

__all__ = ["BASE", "LIVE", "NEW", "OLD", "OPENING", "PROTECTIVE", "SYMBOL", "ZERO"]
__all__ += ["Execution", "FakePlatform", "HeldOrder", "LegKey", "Watcher"]


@dataclass
class FakePlatform(Matching):
    """Takes what the gateway sends: orders, cancels, replaces, requests for snapshots."""

    refusals: Refusals = field(default_factory=Refusals)

    def hello(self) -> m.Hello:
        self.boots += 1
        return m.Hello(
            role=m.Role.ADAPTER,
            name=f"{self.name}-adapter",
            boot_id=f"b{self.boots}",
            platform=self.name,
            account=self.account,
            account_mode=self.mode,
            capabilities=self.capabilities,
            instruments=tuple(
                m.Instrument(symbol=self.symbol_of(contract), platform_symbol=contract, contract=contract)
                for contract in (OLD, NEW)
            ),
        )

    def receive(self, message: object) -> None:
        if isinstance(message, m.Order):
            self._place(message)
        elif isinstance(message, m.Cancel):
            self._cancel(message)
        elif isinstance(message, m.Replace):
            self._replace(message)
        elif isinstance(message, m.SnapshotRequest):
            self.send(make_snapshot(self, message))

    def _place(self, order: m.Order) -> None:
        held = self.orders.get(order.client_order_id)
        if held is not None:
            self.tell_order(held)
            return
        code = self.refused.get(order.client_order_id) or self._refusal_of(order)
        if code is not m.RejectCode.NONE:
            self._refuse(order, code)
            return
        self.number += 1
        self.largest = max(self.largest, order.quantity)
        parts = m.find_client_order_id(order.client_order_id)
        assert parts is not None
        held = HeldOrder(
            order=order,
            platform_id=f"{self.name}{self.number}",
            parts=parts,
            contract=self.contract_of(order.symbol),
            quantity=order.quantity,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )
        self.orders[order.client_order_id] = self.live[order.client_order_id] = held
        self.legs.setdefault(held.leg, []).append(held)
        self.oco.join(held)
        self.watcher.accepted(self, held)
        self.tell_order(held)
        if parts.role is m.OrderRole.EXIT:
            self.trade_protective(held)
        self.plan_fill(held)
        if self.faults.strike("unsolicited_cancel", self.schedule):
            self.later(3_000, lambda: self.end(held, m.LegState.CANCELLED))
        if order.time_in_force is m.TimeInForce.DAY and self.faults.strike("unsolicited_cancel", self.schedule):
            self.later(5_000, lambda: self.end(held, m.LegState.EXPIRED))

    def _refusal_of(self, order: m.Order) -> m.RejectCode:
        """Why this order is not taken now; NONE = it is."""
        if self.schedule.wall_ns > order.not_after_ns:  # the adapter runs on the gateway's computer
            return m.RejectCode.TOO_LATE_TO_SEND
        code = self._refuse_contract(order)
        if code is not m.RejectCode.NONE:
            return code
        scope = self._closed_to(order)
        if scope:
            self.faults.note(f"refused {scope}")
            return m.RejectCode.PLATFORM_REJECTED
        if self.oco.is_over(order.oco_group):
            self.oco.reused += 1
            return m.RejectCode.PLATFORM_REJECTED
        if order.close_ticket and self.tickets.get(order.close_ticket, ZERO) * order.side.sign >= 0:
            return m.RejectCode.PLATFORM_REJECTED
        if order.reduce_only and self.net(self.contract_of(order.symbol)) * order.side.sign >= 0:
            self.stops_that_reduced_nothing += order.stop_price is not None
            return m.RejectCode.PLATFORM_REJECTED
        if self.faults.strike("reject", self.schedule):
            return m.RejectCode.PLATFORM_REJECTED
        return m.RejectCode.NONE

    def _closed_to(self, order: m.Order) -> str:
        """What keeps an order out for a while: a period of refusals, or a market that is shut; empty = nothing."""
        parts = m.find_client_order_id(order.client_order_id)
        assert parts is not None
        now_ns = self.schedule.now_ns
        if self.hours.is_shut(now_ns) and not (self.hours.takes_stops and parts.role in PROTECTIVE):
            return "market is shut"
        return self.refusals.scope_of(parts.role, now_ns)

    def _refuse_contract(self, order: m.Order) -> m.RejectCode:
        """As the adapters' guard does it."""
        contract = self.contract_of(order.symbol)
        if order.contract and order.contract != contract:
            return m.RejectCode.IDENTITY_MISMATCH
        parts = m.find_client_order_id(order.client_order_id)
        if parts is not None and parts.role in OPENING:
            if order.symbol != SYMBOL:
                return m.RejectCode.CONTRACT_EXPIRED
            if contract != self.directory:
                return m.RejectCode.IDENTITY_MISMATCH
        return m.RejectCode.PLATFORM_REJECTED if self.is_shut else m.RejectCode.NONE

    def _refuse(self, order: m.Order, code: m.RejectCode) -> None:
        if order.client_order_id not in self.refused:
            self.refused[order.client_order_id] = code
            self.watcher.refused(self, order, code)
            self.oco.note_end(order.oco_group)
        self.send(make_reject(self, order.client_order_id, code, "the platform says no"))

    def _cancel(self, cancel: m.Cancel) -> None:
        held = self.orders.get(cancel.client_order_id)
        text = "not working"
        if held is not None and held.is_live:
            if self.refusals.holds("cancels", self.schedule.now_ns):
                self.faults.note("refused cancels")
                text = "cancels are refused now; the order works on"
            else:
                self._trade_first(held)
                self.end(held, m.LegState.CANCELLED)
                if held.state is m.LegState.CANCELLED:
                    return
        self.watcher.change_refused(self, held)
        self.send(make_reject(self, cancel.client_order_id, m.RejectCode.CANCEL_REJECTED, text))

    def _trade_first(self, held: HeldOrder) -> None:
        """An order may trade, wholly or in part, while the cancel or the replace of it is on its way."""
        filled, is_protective = held.filled, held.parts.role in PROTECTIVE
        strikes = self.faults.strike("fill_during_cancel", self.schedule)
        if strikes or (is_protective and self.faults.happens("stop_during_close", self.schedule)):
            self.trade(held)
            if held.filled > filled and is_protective:
                self.faults.note(f"{held.parts.role.name.lower()} during cancel")

    def _replace(self, replace: m.Replace) -> None:
        held = self.orders.get(replace.client_order_id)
        if held is not None and held.is_live:
            self._trade_first(held)
        refused = self.faults.strike("reject", self.schedule)
        if self.refusals.holds("replaces", self.schedule.now_ns):
            self.faults.note("refused replaces")
            refused = True
        size_fixed = held is not None and not self.capabilities.replace_quantity and replace.quantity != held.quantity
        if held is None or not held.is_live or refused or size_fixed or replace.quantity <= held.filled:
            self.watcher.change_refused(self, held)
            code, text = m.RejectCode.REPLACE_REJECTED, "cannot change"
            self.send(make_reject(self, replace.client_order_id, code, text, replace.revision))
            return
        before = held.leaves
        held.quantity, held.limit_price, held.stop_price = replace.quantity, replace.limit_price, replace.stop_price
        self.watcher.changed(self, held, before)
        self.tell_order(held, replace.revision)
