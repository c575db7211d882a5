"""A stand-in terminal with a market that moves by itself, and the configuration of a gateway beside it."""

from __future__ import annotations

import calendar
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from nexus_gateway.core.config import GatewayConfig, PlatformConfig, SymbolConfig
from nexus_gateway.core.config.orders import OrdersConfig
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.expiry import contract_dates
from nexus_gateway.core.instruments.rollover import Rollover
from nexus_gateway.core.instruments.sessions import load_sessions

from tests.mt5_terminal.control import StandIn
from tests.mt5_terminal.presets import PRESETS
from tests.support.launched import QUICK
from tests.support.patience import patient
from tests.support.ports import free_port

T = TypeVar("T")
ACCOUNTS = {"global": ("mt5", "5001234", "StandIn-Demo"), "b3": ("mt5_br", "70012345", "StandInB3-PRD")}
ADAPTERS = {
    "mt5": "nexus_gateway.adapters.mt5:Mt5GlobalAdapter",
    "mt5_br": "nexus_gateway.adapters.mt5:Mt5BrazilAdapter",
}


def list_contract(mt5: StandIn, root: str) -> str:
    """Have the stand-in of B3 list the contract that is in front on whatever day the tests run; its code."""
    catalog = load_catalog()
    contract = Rollover(catalog, load_sessions()).front_contract(root, datetime.now(UTC))
    last = contract_dates(catalog, contract).last_session
    shown = next(fields for fields in PRESETS["b3"].symbols if fields["name"].startswith(root))
    expires = calendar.timegm((last.year, last.month, last.day, 22, 15, 0))
    terms = {"name": contract.code, "path": f"BMF\\{contract.code}", "expiration_time": expires}
    mt5.set_symbol(contract.code, **(shown | terms))
    return contract.code


class Broker:
    """`preset` of the stand-in: `global`, which quotes US100.cash, or `b3`, which quotes WIN. Fifty times a second from
    `go` on.

    Attributes:
        mt5: the stand-in; use `tell`, since the market shares its line.
        name: of the symbol at the platform.
    """

    def __init__(self, folder: Path, preset: str = "global", **options: Any) -> None:
        self.mt5 = StandIn(folder / "mt5", preset=preset, **options)
        self.platform, self.account, self.server = ACCOUNTS[preset]
        self.name, self.price, self.step = ("US100.cash", 18000.0, 0.1)
        self.symbol = SymbolConfig(name="NAS100", tick_size=Decimal("0.1"))
        if preset == "b3":
            self.name, self.price, self.step = (list_contract(self.mt5, "WIN"), 176_290.0, 5.0)
            self.symbol = SymbolConfig(name="WIN", contract=self.name, tick_size=Decimal(5))
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

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Of the platform, for a bridge that is started beside its adapter."""
        own: dict[str, Any] = {"names": {"NAS100": "US100.cash"}}
        if self.platform == "mt5_br":
            own = {"quotes_outside_session": True}  # tests run at weekends, too
        native = {"terminal_path": str(self.mt5.exe)}
        account = {"account": self.account, "server": self.server, "port": free_port()}
        return {"backend": "native", "native": native} | account | own | changes

    def config(self, **changes: Any) -> GatewayConfig:
        """A gateway with this one platform; `changes` of its settings."""
        return GatewayConfig(
            run_folder=str(self._folder / "run"),
            log_folder=str(self._folder / "logs"),
            launcher=QUICK,
            orders=OrdersConfig(journal=str(self._folder / "journal" / "orders.sqlite"), adapter_port=0, nexus_port=0),
            symbols=(self.symbol,),
            platforms={
                self.platform: PlatformConfig(
                    adapter=ADAPTERS[self.platform], symbols=(self.symbol.name,), settings=self.settings(**changes)
                )
            },
        )

    def rest(self) -> None:
        """The market stands still from here on."""
        self._over.set()
        if self._market.is_alive():
            self._market.join()

    def close(self) -> None:
        self.rest()
        self.mt5.close()

    def _quote(self) -> None:
        number = 0
        while not self._over.wait(0.02):
            bid = self.price + number % 7 * self.step
            self.tell(lambda mt5, bid=bid: mt5.quote(self.name, bid, bid + self.step, last=bid, volume=1))
            number += 1


def wait_for(look: Callable[[], T], patience_s: float = 60.0) -> T:
    """What `look` gives once it is something."""
    deadline = time.monotonic() + patient(patience_s)
    while not (value := look()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.02)
    return value
