"""What tests may ask of the stand-in: each method is one call of `control.StandIn`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.mt5_terminal.clock import ServerClock
from tests.mt5_terminal.ledger import BUY, SELL
from tests.mt5_terminal.market import Symbol, tick_row
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.module.MetaTrader5.layouts import TICK_DTYPE
from tests.mt5_terminal.presets import MARGIN_MODES, make_symbol
from tests.mt5_terminal.records import Record
from tests.mt5_terminal.server import Server
from tests.mt5_terminal.terminal import Terminal

Answered = tuple[Any, bytes]
SIDES = {"buy": BUY, "sell": SELL}


class Desk:
    """Takes the tests' calls: name, arguments by keyword, raw bytes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._broker = server.broker
        self._ledger = server.broker.ledger

    def __call__(self, name: str, arguments: dict[str, Any], raw: bytes) -> Answered:
        if name in ("push_ticks", "push_late_ticks"):
            arguments = arguments | {"rows": np.frombuffer(raw, TICK_DTYPE)}
        value = getattr(self, f"do_{name}")(**arguments)
        return (value, b"") if not isinstance(value, np.ndarray) else (None, value.tobytes())

    # The program.

    def do_kill_terminal(self, stay_down: bool) -> None:
        self._server.kill_terminal()
        self._server.stay_down = stay_down

    def do_launch_terminal(self, build: int | None) -> None:
        self._server.launch_terminal(build)

    def do_is_running(self) -> bool:
        return self._server.terminal is not None

    def do_drop_clients(self) -> None:
        self._server.drop_clients()

    def do_disconnect(self) -> None:
        terminal = self._terminal()
        terminal.connected = False
        terminal.freeze()

    def do_reconnect(self) -> None:
        terminal = self._terminal()
        terminal.connected = True
        terminal.thaw()

    def do_freeze(self) -> None:
        self._terminal().freeze()

    def do_thaw(self) -> None:
        self._terminal().thaw()

    def do_stall(self, seconds: float) -> None:
        self._server.hang(seconds)

    def do_hang(self) -> None:
        self._server.hang(None)

    def do_release(self) -> None:
        self._server.release()

    def do_set_switches(self, **switches: bool) -> None:
        _change(self._terminal(), switches, ("trade_allowed", "tradeapi_disabled", "dlls_allowed"))

    def do_set_account(self, **fields: Any) -> None:
        if "margin_mode" in fields:
            fields["margin_mode"] = MARGIN_MODES[fields["margin_mode"]]
        _change(self._ledger.account, fields, tuple(self._ledger.account.as_dict()))

    def do_refuse_login(self, refused: bool) -> None:
        self._broker.login_state = "refused" if refused else "ready"

    def do_never_ready(self, never: bool) -> None:
        self._broker.login_state = "waiting" if never else "ready"

    def do_slow_calls(self, name: str, seconds: float, times: int) -> None:
        self._server.slow_ms[name] = [int(seconds * 1000)] * times

    def do_set_victim(self, pid: int) -> None:
        self._broker.victim_pid = pid

    # The market.

    def do_quote(self, symbol: str, **fields: Any) -> np.ndarray:
        market = self._symbol(symbol)
        values = {"volume_real" if name == "volume" else name: value for name, value in fields.items()}
        if values["time_msc"] is None:
            values["time_msc"] = self._broker.clock.now_ms()
            if market.ticks.count:
                values["time_msc"] = max(values["time_msc"], int(market.ticks.times[-1]))
        if values["flags"] is None:
            values["flags"] = self._changed(market, values)
        row = tick_row(**values)
        self._broker.push(market, row)
        return row

    def do_push_ticks(self, symbol: str, rows: np.ndarray) -> None:
        self._broker.push(self._symbol(symbol), rows)

    def do_push_late_ticks(self, symbol: str, rows: np.ndarray) -> None:
        self._symbol(symbol).ticks.insert(rows)

    def do_forget_ticks(self, symbol: str, before_msc: int) -> None:
        self._symbol(symbol).ticks.forget(before_msc)

    def do_ticks(self, symbol: str) -> np.ndarray:
        return self._symbol(symbol).ticks.rows.copy()

    def do_set_symbol(self, symbol: str, **fields: Any) -> None:
        known = self._broker.symbols.get(symbol)
        if known is None:
            self._broker.symbols[symbol] = make_symbol(False, {"name": symbol, **fields})
        else:
            _change(known.info, fields, tuple(known.info.as_dict()))
            known.watched = known.info.select

    def do_remove_symbol(self, symbol: str) -> None:
        del self._broker.symbols[symbol]

    def do_set_market(self, symbol: str, is_open: bool) -> None:
        self._symbol(symbol).is_open = is_open

    def do_set_depth(self, symbol: str, levels: list[list[float]]) -> None:
        self._symbol(symbol).depth = levels

    def do_server_now_ms(self) -> int:
        return self._broker.clock.now_ms()

    def do_set_clock(self, zone: str | None, shift_s: float) -> None:
        clock: ServerClock = self._broker.clock
        clock.zone = zone or clock.zone
        clock.shift_ms = int(shift_s * 1000)

    # Orders.

    def do_script(self, scenario: str, count: int, **terms: Any) -> None:
        self._broker.script.queue(scenario, count, terms)

    def do_script_all(self, scenario: str | None, **terms: Any) -> None:
        self._broker.script.set_all(scenario or "", terms)

    def do_hand_trade(self, symbol: str, side: str, volume: float) -> dict[str, Any]:
        return self._broker.hand_trade(symbol, SIDES[side], volume).as_dict()

    def do_hand_order(self, symbol: str, type: int, volume: float, price: float) -> dict[str, Any]:
        return self._broker.hand_order(symbol, type, volume, price).as_dict()

    def do_hand_close(self, position: int | None, volume: float) -> None:
        for held in list(self._ledger.positions.values()):
            if position in (None, held.ticket):
                self._broker.close(held, mt5.ORDER_REASON_CLIENT, volume=volume)

    def do_hand_cancel(self, order: int) -> None:
        self._ledger.finish(self._ledger.orders[order], mt5.ORDER_STATE_CANCELED)

    def do_hand_modify(self, order: int, price: float) -> None:
        self._ledger.orders[order].price_open = price

    def do_hand_stops(self, position: int, sl: float, tp: float) -> None:
        self._ledger.positions[position].sl, self._ledger.positions[position].tp = sl, tp

    def do_set_commission(self, per_lot: float) -> None:
        self._ledger.commission = per_lot

    def do_balance(self, amount: float, comment: str) -> dict[str, Any]:
        return self._ledger.add_balance(amount, comment).as_dict()

    def do_bust(self, deal: int) -> None:
        self._ledger.bust(self._ledger.deals[deal])

    def do_correct(self, deal: int, price: float) -> None:
        self._ledger.deals[deal].price = price

    def do_stop_out(self) -> None:
        for held in list(self._ledger.positions.values()):
            self._broker.close(held, mt5.ORDER_REASON_SO, "[so 50.00%]")

    # The truth.

    def do_truth(self) -> dict[str, Any]:
        ledger = self._ledger
        books = ("orders", "history_orders", "deals", "positions")
        rows = {book: [each.as_dict() for each in getattr(ledger, book).values()] for book in books}
        return rows | {"account": ledger.account.as_dict()}

    def do_calls(self) -> dict[str, int]:
        return dict(self._server.calls)

    def do_launches(self) -> list[str]:
        return self._server.launches

    def do_requests(self) -> list[dict[str, Any]]:
        return self._broker.requests

    def _terminal(self) -> Terminal:
        if self._server.terminal is None:
            raise ValueError("the terminal does not run; call launch_terminal first")
        return self._server.terminal

    def _symbol(self, name: str) -> Symbol:
        if name not in self._broker.symbols:
            raise ValueError(f"symbol was {name!r}, must be one of {', '.join(self._broker.symbols)}")
        return self._broker.symbols[name]

    def _changed(self, market: Symbol, values: dict[str, Any]) -> int:
        """The flags that a terminal gives a tick: which of its values are new."""
        info, flags = market.info, 0
        for name, flag in (("bid", mt5.TICK_FLAG_BID), ("ask", mt5.TICK_FLAG_ASK), ("last", mt5.TICK_FLAG_LAST)):
            flags |= flag if values[name] != getattr(info, name) else 0
        if values["volume_real"]:
            flags |= mt5.TICK_FLAG_LAST | mt5.TICK_FLAG_VOLUME
        return (flags or mt5.TICK_FLAG_BID | mt5.TICK_FLAG_ASK) | self._broker.flag_bits


def _change(target: Terminal | Record, values: dict[str, Any], allowed: tuple[str, ...]) -> None:
    for name, value in values.items():
        if name not in allowed:
            raise ValueError(f"field was {name!r}, must be one of {', '.join(allowed)}")
        setattr(target, name, value)
