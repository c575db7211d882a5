"""The tests' end: start a stand-in, move its market, break it, mend it, read what is true at the broker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.mt5_terminal.module.MetaTrader5.layouts import TICK_DTYPE
from tests.mt5_terminal.module.MetaTrader5.pipe import HEADER, OPTIONS_FILE
from tests.mt5_terminal.server import CONTROL_FILE, EXE
from tests.support.patience import patient

__all__ = ["MODULE_FOLDER", "TICK_DTYPE", "StandIn", "Truth"]

MODULE_FOLDER = Path(__file__).parent / "module"
REPOSITORY = Path(__file__).parents[2]
_OPTIONS = (
    *("preset", "margin_mode", "login", "server", "company", "balance", "launches", "launch_wait_s", "clients_max"),
    *("rehearse", "exchange_delay_ms", "build", "running", "victim_pid"),
)

_PATIENCE_S = 30.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """The broker's books: rows with the module's field names, also those that clients do not see yet."""

    orders: list[Row]
    history_orders: list[Row]
    deals: list[Row]
    positions: list[Row]
    account: Row

    def trades(self) -> list[Row]:
        """Deals of a symbol: without balance operations and cancelled ones."""
        return [deal for deal in self.deals if deal["type"] in (0, 1)]

    def net(self, symbol: str) -> float:
        """Lots, signed."""
        signed = [held["volume"] * (1 - 2 * held["type"]) for held in self.positions if held["symbol"] == symbol]
        return round(sum(signed), 8)


def _unmeasured() -> dict[str, str]:
    """os.environ without what starts coverage: neither the terminal nor the bridge is part of its figure."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}


class StandIn:
    """A running stand-in; closes with the last `StandIn` on it. Calls are explained in README.md.

    Raises:
        ValueError: an option or argument that does not exist.
    """

    def __init__(self, folder: Path, preset: str = "global", **options: Any) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.exe = self.folder / EXE
        unknown = set(options) - set(_OPTIONS)
        if unknown:
            raise ValueError(f"options were {sorted(unknown)}, must be of {_OPTIONS}")
        self.exe.touch()
        # A test waits for no launch that nobody makes as long as the real module does.
        described = {"preset": preset, "launch_wait_s": 5.0, **options}
        (self.folder / OPTIONS_FILE).write_text(json.dumps(described))
        with (self.folder / "console.txt").open("ab") as console:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.mt5_terminal", str(self.folder)],
                cwd=REPOSITORY,
                stdout=console,
                stderr=console,
                env=_unmeasured(),
            )
        self._line = self._connect()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, market, broker and all."""
        self._line.close()
        self._process.wait(patient(_PATIENCE_S))

    @staticmethod
    def environment() -> dict[str, str]:
        """os.environ in which `import MetaTrader5` finds the stand-in."""
        former = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(MODULE_FOLDER), *([former] if former else [])])
        return {**_unmeasured(), "PYTHONPATH": path}

    # The program.

    def kill_terminal(self, stay_down: bool = False) -> None:
        self._call("kill_terminal", stay_down=stay_down)

    def launch_terminal(self, build: int | None = None) -> None:
        self._call("launch_terminal", build=build)

    @property
    def is_running(self) -> bool:
        return bool(self._call("is_running"))

    def drop_clients(self) -> None:
        self._call("drop_clients")

    def disconnect(self) -> None:
        self._call("disconnect")

    def reconnect(self) -> None:
        self._call("reconnect")

    def freeze(self) -> None:
        self._call("freeze")

    def thaw(self) -> None:
        self._call("thaw")

    def stall(self, seconds: float) -> None:
        self._call("stall", seconds=seconds)

    def hang(self) -> None:
        self._call("hang")

    def release(self) -> None:
        self._call("release")

    def set_switches(self, **switches: bool) -> None:
        self._call("set_switches", **switches)

    def set_account(self, **fields: Any) -> None:
        self._call("set_account", **fields)

    def refuse_login(self, refused: bool = True) -> None:
        self._call("refuse_login", refused=refused)

    def never_ready(self, never: bool = True) -> None:
        self._call("never_ready", never=never)

    def slow_calls(self, name: str, seconds: float, times: int = 1) -> None:
        self._call("slow_calls", name=name, seconds=seconds, times=times)

    def set_victim(self, pid: int) -> None:
        self._call("set_victim", pid=pid)

    # The market.

    def quote(
        self,
        symbol: str,
        bid: float,
        ask: float,
        last: float = 0.0,
        volume: float = 0.0,
        flags: int | None = None,
        time_msc: int | None = None,
    ) -> np.void:
        terms = {"bid": bid, "ask": ask, "last": last, "volume": volume, "flags": flags, "time_msc": time_msc}
        row: np.void = self._rows("quote", symbol=symbol, **terms)[0]
        return row

    def push_ticks(self, symbol: str, rows: np.ndarray) -> None:
        self._call("push_ticks", raw=_packed(rows), symbol=symbol)

    def push_late_ticks(self, symbol: str, rows: np.ndarray) -> None:
        self._call("push_late_ticks", raw=_packed(rows), symbol=symbol)

    def forget_ticks(self, symbol: str, before_msc: int) -> None:
        self._call("forget_ticks", symbol=symbol, before_msc=before_msc)

    def ticks(self, symbol: str) -> np.ndarray:
        return self._rows("ticks", symbol=symbol)

    def stamp_now(self, rows: np.ndarray) -> np.ndarray:
        stamped = rows.copy()
        stamped["time_msc"] += self.server_now_ms() - stamped["time_msc"][-1]
        stamped["time"] = stamped["time_msc"] // 1000
        return stamped

    def set_symbol(self, symbol: str, **fields: Any) -> None:
        self._call("set_symbol", symbol=symbol, **fields)

    def remove_symbol(self, symbol: str) -> None:
        self._call("remove_symbol", symbol=symbol)

    def set_market(self, symbol: str, is_open: bool) -> None:
        self._call("set_market", symbol=symbol, is_open=is_open)

    def set_depth(self, symbol: str, levels: list[tuple[int, float, float]]) -> None:
        self._call("set_depth", symbol=symbol, levels=levels)

    def server_now_ms(self) -> int:
        return int(self._call("server_now_ms"))

    def set_clock(self, zone: str | None = None, shift_s: float = 0.0) -> None:
        self._call("set_clock", zone=zone, shift_s=shift_s)

    # Orders, hands, the broker.

    def script(self, scenario: str, count: int = 1, **terms: Any) -> None:
        self._call("script", scenario=scenario, count=count, **terms)

    def script_all(self, scenario: str | None, **terms: Any) -> None:
        self._call("script_all", scenario=scenario, **terms)

    def hand_trade(self, symbol: str, side: str, volume: float) -> Row:
        return dict(self._call("hand_trade", symbol=symbol, side=side, volume=volume))

    def hand_order(self, symbol: str, type: int, volume: float, price: float) -> Row:
        return dict(self._call("hand_order", symbol=symbol, type=type, volume=volume, price=price))

    def hand_close(self, position: int | None = None, volume: float = 0.0) -> None:
        self._call("hand_close", position=position, volume=volume)

    def hand_cancel(self, order: int) -> None:
        self._call("hand_cancel", order=order)

    def hand_modify(self, order: int, price: float) -> None:
        self._call("hand_modify", order=order, price=price)

    def hand_stops(self, position: int, sl: float = 0.0, tp: float = 0.0) -> None:
        self._call("hand_stops", position=position, sl=sl, tp=tp)

    def set_commission(self, per_lot: float) -> None:
        self._call("set_commission", per_lot=per_lot)

    def balance(self, amount: float, comment: str = "") -> Row:
        return dict(self._call("balance", amount=amount, comment=comment))

    def bust(self, deal: int) -> None:
        self._call("bust", deal=deal)

    def correct(self, deal: int, price: float) -> None:
        self._call("correct", deal=deal, price=price)

    def stop_out(self) -> None:
        self._call("stop_out")

    # The truth.

    def truth(self) -> Truth:
        return Truth(**self._call("truth"))

    def calls(self) -> dict[str, int]:
        return dict(self._call("calls"))

    def launches(self) -> list[str]:
        return list(self._call("launches"))

    def requests(self) -> list[Row]:
        return list(self._call("requests"))

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + patient(_PATIENCE_S)
        while True:
            try:
                return socket.create_connection(("127.0.0.1", int((self.folder / CONTROL_FILE).read_text())))
            except (OSError, ValueError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"no stand-in: {(self.folder / 'console.txt').read_text()[-2000:]}") from None
                time.sleep(0.01)

    def _rows(self, name: str, /, **arguments: Any) -> np.ndarray:
        return np.frombuffer(self._exchange(name, arguments, b"")[1], TICK_DTYPE)

    def _call(self, name: str, /, *, raw: bytes = b"", **arguments: Any) -> Any:
        return self._exchange(name, arguments, raw)[0]

    def _exchange(self, name: str, arguments: Row, raw: bytes) -> tuple[Any, bytes]:
        body = json.dumps({"call": name, "arguments": arguments}).encode()
        self._line.sendall(HEADER.pack(len(body), len(raw)) + body + raw)
        json_bytes, raw_bytes = HEADER.unpack(self._receive(HEADER.size))
        answer = json.loads(self._receive(json_bytes))
        answer_raw = self._receive(raw_bytes)
        if "error" in answer:
            raise ValueError(f"stand-in refused {name}({arguments}): {answer['error']}")
        return answer["value"], answer_raw

    def _receive(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            chunk = self._line.recv(min(1 << 20, size - len(parts)))
            if not chunk:
                raise RuntimeError(f"the stand-in died: {(self.folder / 'console.txt').read_text()[-2000:]}")
            parts += chunk
        return bytes(parts)


def _packed(rows: np.ndarray) -> bytes:
    if rows.dtype != np.dtype(TICK_DTYPE):
        raise ValueError(f"dtype was {rows.dtype}, must be TICK_DTYPE")
    return rows.tobytes()
