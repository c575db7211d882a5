"""What has left the gateway, and the rules that each order on its way must keep."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import EngineState
from nexus_gateway.core.risk import Limits, day_bounds

from tests.simulation.journal import MemoryJournal, fingerprint
from tests.simulation.platform import OPENING, SYMBOL
from tests.simulation.schedule import Schedule


class SentOrders:
    """`losses`: how often the journal has lost its tail; after that an order may be sent again. `reducing`: keys of
    signals that only reduce. Days are those of the gateway's wall clock.
    """

    def __init__(self, schedule: Schedule, limits: Limits) -> None:
        self.schedule, self.limits = schedule, limits
        self.orders = 0
        self.losses = 0
        self.reducing: set[str] = set()
        self.times: dict[str, int] = {}
        self.first_sent_ns: dict[str, int] = {}
        self.equity: dict[str, Decimal] = {}
        self.day_start: dict[str, tuple[int, Decimal]] = {}

    def day_ns(self) -> int:
        return day_bounds(self.schedule.wall_ns, self.limits.day_zone, self.limits.day_starts)[0]

    def note_equity(self, state: EngineState) -> None:
        """What each day began with, from what is on disk."""
        # By the time of the newest event: a full disk may put it there only after a day has begun.
        day_ns = day_bounds(state.now_ns + state.wall_offset_ns, self.limits.day_zone, self.limits.day_starts)[0]
        for name, route in state.routes.items():
            if route.funds is None:
                continue
            if self.day_start.get(name, (0,))[0] < day_ns:  # a clock that is set back begins no day again
                self.day_start[name] = day_ns, self.equity.get(name, route.funds.equity)
            self.equity[name] = route.funds.equity

    def check(self, message: object, state: EngineState, journal: MemoryJournal) -> list[str]:
        """A message on its way to a platform: what is wrong with it."""
        found = []
        if not isinstance(message, m.SnapshotRequest) and fingerprint(message) not in journal.intents:
            found.append(f"{message.client_order_id} left without a journaled intent")
        if isinstance(message, m.Order):
            self.orders += 1
            name = message.client_order_id
            self.times[name] = self.times.get(name, 0) + 1
            self.first_sent_ns.setdefault(name, self.schedule.wall_ns)
            if self.times[name] > 1 + self.losses:
                found.append(f"{name} was sent {self.times[name]} times")
            found += self._check_contract(message, state)
            found += self._check_loss(message)
        return found

    def _check_contract(self, order: m.Order, state: EngineState) -> list[str]:
        """Nothing is made for a contract that was rolled out of. What the turn of the roll made before the roll leaves,
        and is refused by the adapters, which see the contract in front.
        """
        chosen = state.contracts.get(SYMBOL)
        parts = m.find_client_order_id(order.client_order_id)
        if chosen is None or parts is None or parts.role not in OPENING or order.contract in ("", chosen.contract):
            return []
        record = state.orders.get(order.client_order_id)
        if record is not None and record.sent_ns <= chosen.chosen_ns:
            return []
        return [f"{order.client_order_id} opens in {order.contract}, {chosen.contract} is in front"]

    def _check_loss(self, order: m.Order) -> list[str]:
        parts = m.find_client_order_id(order.client_order_id)
        most = self.limits.max_daily_loss_usd
        assert most is not None
        loss = sum((start - self.equity[name] for name, (_, start) in self.day_start.items()), Decimal(0))
        opens = parts is not None and parts.role is m.OrderRole.ENTRY and parts.key not in self.reducing
        if opens and loss >= most and not self.losses:
            return [f"{order.client_order_id} was entered after a loss of {loss}, limit {most}"]
        return []
