"""A stand-in terminal with a market that moves by itself, and the configuration of a gateway beside it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from nexus_gateway.core.config import GatewayConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.config.schema import OrdersConfig

from tests.mt5_terminal.control import StandIn
from tests.support.launched import QUICK

T = TypeVar("T")
ACCOUNTS = {"global": ("mt5", "5001234", "StandIn-Demo"), "b3": ("mt5_br", "70012345", "StandInB3-PRD")}
ADAPTERS = {
    "mt5": "nexus_gateway.adapters.mt5_global:Mt5GlobalAdapter",
    "mt5_br": "nexus_gateway.adapters.mt5_brazil:Mt5BrazilAdapter",
}
SYMBOLS = {
    "mt5": (SymbolConfig(name="NAS100", tick_size=Decimal("0.1")),),
    "mt5_br": (SymbolConfig(name="WIN", contract="WINZ26", tick_size=Decimal(5)),),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Broker:
    """`preset` of the stand-in; its first symbol is quoted fifty times a second from `go` on.

    Attributes:
        mt5: the stand-in; use `tell`, since the market shares its line.
    """

    def __init__(self, folder: Path, preset: str = "global", **options: Any) -> None:
        self.mt5 = StandIn(folder / "mt5", preset=preset, **options)
        self.platform, self.account, self.server = ACCOUNTS[preset]
        self.name, self.price, self.step = ("US100.cash", 18000.0, 0.1)
        if preset == "b3":
            self.name, self.price, self.step = ("WINZ26", 176_290.0, 5.0)
        self._folder = folder
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._market = threading.Thread(target=self._quote, daemon=True)

    def tell(self, call: Callable[[StandIn], T]) -> T:
        """Something to the stand-in, between two quotes."""
        with self._lock:
            return call(self.mt5)

    def go(self) -> Broker:
        """The market opens."""
        self._market.start()
        return self

    def config(self, **changes: Any) -> GatewayConfig:
        """A gateway that starts the bridge itself; `changes` of the platform's settings."""
        settings = {
            "backend": "native",
            "account": self.account,
            "server": self.server,
            "port": free_port(),
            "native": {"terminal_path": str(self.mt5.exe)},
        }
        if self.platform == "mt5":
            settings["names"] = {"NAS100": "US100.cash"}
        else:
            settings["quotes_outside_session"] = True  # tests run at weekends, too
        symbols = SYMBOLS[self.platform]
        return GatewayConfig(
            run_folder=str(self._folder / "run"),
            log_folder=str(self._folder / "logs"),
            launcher=QUICK,
            orders=OrdersConfig(journal=str(self._folder / "journal" / "orders.sqlite"), adapter_port=0, nexus_port=0),
            symbols=symbols,
            platforms={
                self.platform: PlatformConfig(
                    adapter=ADAPTERS[self.platform],
                    symbols=tuple(symbol.name for symbol in symbols),
                    settings=settings | changes,
                )
            },
        )

    def close(self) -> None:
        self._over.set()
        if self._market.is_alive():
            self._market.join()
        self.mt5.close()

    def _quote(self) -> None:
        number = 0
        while not self._over.wait(0.02):
            bid = self.price + number % 7 * self.step
            self.tell(lambda mt5, bid=bid: mt5.quote(self.name, bid, bid + self.step, last=bid, volume=1))
            number += 1


def wait_for(look: Callable[[], T], patience_s: float = 60.0) -> T:
    """What `look` gives once it is something."""
    deadline = time.monotonic() + patience_s
    while not (value := look()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.02)
    return value
