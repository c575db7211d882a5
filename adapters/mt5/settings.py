"""The keys of `settings` of the two MetaTrader 5 platforms (docs/platforms/mt5.md)."""

from __future__ import annotations

import sys
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from ...shm.tick import Platform
from ..bridge.settings import BridgeSettings, BridgeStart

MAX_SYMBOL_CHARACTERS: Final = 29
"""The MetaTrader5 package refuses longer symbols."""

SHIPPED_BRIDGE: Final = Path(__file__).resolve().parents[2] / "bridges" / "mt5" / "mt5_bridge"
_WRITTEN_BY_GATEWAY: Final = (
    *("platform", "terminal_path", "login", "server", "company", "host", "port", "remote"),
    *("token_file", "token_env", "pulse_file"),
)

Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]


class NativeBridge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""How the bridge is started on this machine.

    Attributes:
        terminal_path: of terminal64.exe; no other terminal is ever taken.
        interpreter: command of the Python that has the MetaTrader5 package; empty = the gateway's own. Under Wine
            `[wine, 'C:\Python312\python.exe']`.
        script: the bridge, its folder or its archive; None = the folder that comes with the gateway.
        start_timeout_s: from its start to its first heartbeat.
        options: further keys of the bridge's own configuration (bridges/mt5/README.md), such as `clock`; it checks
            them.
    """

    terminal_path: Annotated[str, Meta(min_length=1)]
    interpreter: tuple[str, ...] = ()
    script: str | None = None
    start_timeout_s: Annotated[float, Meta(ge=1, le=600)] = 60.0
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for key in self.options:
            if key in _WRITTEN_BY_GATEWAY:
                raise ValueError(
                    f"options has {key}, which the gateway writes itself; set it outside of native.options"
                )
        # Of a path of Windows, too: under Wine.
        if self.script is not None and PureWindowsPath(self.script).name == "mt5_bridge.py":
            raise ValueError(
                f"script was {self.script!r}, the one-file bridge of version 0.1; name the folder mt5_bridge, or the "
                "archive mt5_bridge-<version>.pyz that `make bridges` builds"
            )


class Mt5Settings(BridgeSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a MetaTrader 5 platform. Its one account is the login: write it in `account`.

    Attributes:
        backend: native = the launcher starts the bridge, beside the adapter; remote = it runs already, at `host`.
        native: how the bridge is started, with `backend: native`; that needs `account` and `server`, too.
        server, company: of the account, as the terminal shows them; another one is refused. None = any.
        ticks_port: of a second bridge of the same terminal, with `role: ticks`; the one at `port` has `role: orders`
            then. None = one bridge for both.
        mode: the account's; another one is refused. None = either. Never assume it from the country.
        currency: the account's; another one is refused. None = any.
    """

    backend: Literal["native", "remote"] = "remote"
    native: NativeBridge | None = None
    ticks_port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    server: str | None = None
    company: str | None = None
    mode: Literal["netting", "hedging"] | None = None
    currency: Currency | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.backend == "native") != (self.native is not None):
            raise ValueError(
                "native belongs to backend: native, which needs it; write native: {terminal_path: ...}, or "
                "backend: remote for a bridge that somebody else starts"
            )
        if self.ticks_port is not None and self.ticks_port == self.port:
            raise ValueError(f"ticks_port was {self.ticks_port}, as port; two bridges need two ports")
        if self.native is None:
            return
        if self.ticks_port is not None and "role" in self.native.options:
            raise ValueError("native.options has role, which the gateway writes itself beside ticks_port; remove it")
        if self.remote:
            raise ValueError("remote was true, must be false with backend: native, which runs on this machine")
        if self.account is None or not self.account.isdecimal():
            raise ValueError(
                f"account was {self.account!r}, must be the number of the account with backend: native; the bridge "
                "compares it with the terminal's before anything else"
            )
        if self.server is None:
            raise ValueError(
                "server is missing, backend: native needs the account's; write it as the terminal shows it"
            )

    @property
    def needs_token(self) -> bool:
        return self.backend == "remote"

    def native_starts(self, platform: Platform) -> tuple[BridgeStart, ...]:
        native = self.native
        if native is None:
            return ()
        assert self.account is not None
        configuration = native.options | {
            "platform": platform.key,
            "terminal_path": native.terminal_path,
            "login": int(self.account),
            "server": self.server,
            "company": self.company,
            "host": self.host,
            "port": self.port_of(platform),
        }
        script = SHIPPED_BRIDGE if native.script is None else Path(native.script).expanduser()
        command = (*(native.interpreter or (sys.executable,)), str(script))
        if self.ticks_port is None:
            return (BridgeStart(command, configuration, native.start_timeout_s),)
        orders = configuration | {"role": "orders"}
        ticks = configuration | {"role": "ticks", "port": self.ticks_port}
        return (
            BridgeStart(command, orders, native.start_timeout_s),
            BridgeStart(command, ticks, native.start_timeout_s, "ticks"),
        )


class Mt5GlobalSettings(Mt5Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a global broker's terminal. `suffix`: what this broker appends to the names of its CFDs and pairs."""

    suffix: Annotated[str, Meta(max_length=12)] = ""


class Mt5BrazilSettings(Mt5Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a Brazilian broker's terminal. `quotes_outside_session`: let bid and ask of closed hours through,
    which B3's feeds fill with nonsense; for rehearsals alone.
    """

    currency: Currency | None = "BRL"
    quotes_outside_session: bool = False
