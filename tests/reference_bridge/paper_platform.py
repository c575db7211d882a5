"""A platform for the reference bridge: the paper exchange with all its scenarios, and a thread for its clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec
from nexus_gateway.adapters.paper.exchange import PaperExchange, new_book
from nexus_gateway.adapters.paper.matching import make_quote
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages.decimals import to_plain_builtins

from tests.reference_bridge import wire
from tests.reference_bridge.server import Body, BridgeServer

ACCOUNT = "Sim101"
Price = float | None


class PaperPlatform:
    """`names`: the platform's own name -> what it says of that instrument. `on_death`: what a deadly scenario kills.

    The exchange knows our universal names only while they are subscribed; the names at the platform stay the same.
    """

    version = "reference 1"

    def __init__(
        self,
        key: str,
        settings: PaperSettings,
        names: Mapping[str, m.Instrument],
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self.key = key
        self.server: BridgeServer | None = None
        self.data_up = True
        self.orders_up = True
        self._settings = settings
        self._names = names
        self._on_death = on_death
        self._instruments: dict[str, m.Instrument] = {}
        self._ids: dict[str, int] = {}
        self._last: dict[str, wire.Tick] = {}
        self._book = new_book(key, settings, time.time_ns())
        self._exchange = self._make_exchange()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._over = False
        self._clock = threading.Thread(target=self._run, daemon=True)
        self._clock.start()

    # The bridge's side.

    def describe(self) -> Body:
        account = {
            "name": ACCOUNT,
            "mode": self._settings.account_mode(self.key).value,
            "currency": self._settings.account_currency(self.key),
            "simulated": True,
        }
        return {
            "accounts": [account],
            "capabilities": to_plain_builtins(self._settings.capabilities(self.key)) | {"flatten": True},
            "data_up": self.data_up,
            "orders_up": self.orders_up,
        }

    def subscribe(self, wanted: list[Body]) -> list[Body]:
        with self._lock:
            self._ids.clear()
            answers = []
            for each in wanted:
                known = self._names.get(each["platform_symbol"])
                if known is None:
                    answers.append({"symbol_id": each["symbol_id"], "accepted": False, "text": "no such instrument"})
                    continue
                described = msgspec.structs.replace(
                    known, symbol=each["symbol"], platform_symbol=each["platform_symbol"]
                )
                self._instruments[each["symbol"]] = described
                self._ids[each["symbol"]] = each["symbol_id"]
                answers.append(
                    {
                        "symbol_id": each["symbol_id"],
                        "accepted": True,
                        "instrument": to_plain_builtins(described),
                        "tradable": True,
                    }
                )
            return answers

    def states(self, symbol_ids: set[int]) -> list[wire.Tick]:
        with self._lock:
            names = {self._ids[symbol]: self._instruments[symbol].platform_symbol for symbol in self._ids}
            newest = {symbol_id: self._last.get(names[symbol_id]) for symbol_id in symbol_ids & names.keys()}
            return [tick._replace(symbol_id=symbol_id) for symbol_id, tick in newest.items() if tick is not None]

    def place(self, place: Body) -> bool:
        order = msgspec.convert(place["order"], m.Order)
        if self._is_late(order, order.client_order_id):
            return False
        return self._act(lambda now_ns: self._exchange.place(order, now_ns))

    def cancel(self, cancel: Body) -> bool:
        command = msgspec.convert(cancel, m.Cancel)
        return self._act(lambda now_ns: self._exchange.cancel(command, now_ns))

    def replace(self, replace: Body) -> bool:
        command = msgspec.convert(replace, m.Replace)
        return self._act(lambda now_ns: self._exchange.replace(command, now_ns))

    def flatten(self, flatten: Body) -> bool:
        command = msgspec.convert(flatten, m.Flatten)
        return not self._is_late(command, "") and self._act(self._exchange.flatten)

    def snapshot(self, request: Body) -> Body:
        wanted = msgspec.convert(request, m.SnapshotRequest)
        with self._lock:
            self._settle()
            return to_plain_builtins(self._exchange.snapshot(wanted, time.time_ns()))

    def forget(self) -> None:
        with self._lock:
            self._ids.clear()

    @property
    def is_subscribed(self) -> bool:
        return bool(self._ids)

    # The market's side, and the hand that breaks things.

    def quote(self, symbol: str, bid: Price, ask: Price, bid_size: Price, ask_size: Price) -> int:
        """The market moves, for the exchange and for the adapter. Returns the tick's time."""
        values = [float("nan") if value is None else value for value in (bid, ask, bid_size, ask_size)]
        with self._lock:
            now_ns = time.time_ns()
            described = self._instruments[symbol]
            assert described.tick_size is not None
            assert described.lot_step is not None
            self._exchange.set_quote(symbol, make_quote(*values, described.tick_size, described.lot_step), now_ns)
            numbers = dict(zip(("bid", "ask", "bid_size", "ask_size"), values, strict=True))
            tick = wire.Tick(self._ids.get(symbol, 0), now_ns, wire.BID | wire.ASK, **numbers)
            self._last[described.platform_symbol] = tick
            if self.server is not None and symbol in self._ids:
                self.server.send_ticks([tick])
            self._settle()
        return now_ns

    def set_status(self, *, data_up: bool = True, orders_up: bool = True) -> None:
        """The platform's own links."""
        self.data_up, self.orders_up = data_up, orders_up
        if self.server is not None:
            self.server.send({"type": "status", "data_up": data_up, "orders_up": orders_up, "text": "by hand"})

    def close(self) -> None:
        """The platform ends; its account is gone."""
        self._over = True
        self._wake.set()
        self._clock.join()

    # Inside.

    def _make_exchange(self) -> PaperExchange:
        return PaperExchange(self.key, ACCOUNT, self._settings, self._instruments, self._book)

    def _is_late(self, command: m.Order | m.Flatten, client_order_id: str) -> bool:
        if not command.not_after_ns or time.time_ns() <= command.not_after_ns:
            return False
        self._tell(
            m.Reject(
                code=m.RejectCode.TOO_LATE_TO_SEND,
                text="it came after the time it had to be sent by",
                client_order_id=client_order_id,
                platform=command.platform,
                account=command.account,
            )
        )
        return True

    def _act(self, deed: Callable[[int], None]) -> bool:
        with self._lock:
            deed(time.time_ns())
            self._settle()
            self._wake.set()
        return True

    def _settle(self) -> None:
        """Let what is due happen, and tell it."""
        now_ns = time.time_ns()
        self._exchange.advance(now_ns)
        self._book.changed.clear()
        if self._exchange.timeline.is_dead:
            self._on_death()
            self._exchange = self._make_exchange()  # the account itself lives on
            return
        for report in self._exchange.pop_reports(now_ns):
            self._tell(report)

    def _tell(self, event: m.Message) -> None:
        if self.server is not None:
            self.server.send(to_plain_builtins(event))

    def _run(self) -> None:
        while not self._over:
            with self._lock:
                self._settle()
                due_s = (self._exchange.next_due_ns - time.time_ns()) / 1e9
            self._wake.wait(min(max(due_s, 0.0), 1.0))
            self._wake.clear()


def describe_nq() -> m.Instrument:
    """NQ as a platform describes it."""
    return m.Instrument(
        symbol="NQ",
        platform_symbol="NQ",
        tick_size=Decimal("0.25"),
        lot_step=Decimal(1),
        point_value=Decimal(20),
        currency="USD",
        expiry_ns=0,
    )
