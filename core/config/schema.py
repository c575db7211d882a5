"""The configuration's types, ranges and defaults. Key names end with their unit; each default is defined here only.

Without any file these defaults run: six simulated platforms on one machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from ...shm import host
from ...shm.layout import SYMBOL_NAME_BYTES
from ...shm.run_folder import check_name
from ...shm.symbols import IDS_FOR_CONTRACTS, MAX_CONFIGURED
from ...shm.tick import Platform
from ..bounds import PLAIN_TEXT_WORDS, is_plain
from ..risk.limits import Limits
from .conversion import convert_settings
from .default_limits import make_default_limits
from .default_symbols import DEFAULT_PLATFORM_SYMBOLS, DEFAULT_STAND_INS, DEFAULT_TICK_SIZES
from .disk import DiskConfig
from .folders import check_folder, folder_or
from .orders import OrdersConfig
from .rollover import RolloverConfig
from .trading import TradingSettings, pick_trading_settings

SIMULATOR: Final = "nexus_gateway.adapters.simulator:SimulatorAdapter"
_REPLAY: Final = "nexus_gateway.adapters.replay:"
PLATFORM_KEYS: Final = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")
LAUNCHER_NAME: Final = "launcher"
RECORDER_NAME: Final = "recorder"
GATEWAY_NAME: Final = "gateway"

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
CoreList: TypeAlias = tuple[Annotated[int, Meta(ge=0, le=4095)], ...]
IdleName: TypeAlias = Literal["busy_spin", "yield", "backoff"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

ENTRY_PATTERN: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""An adapter's class or a process's function, as "module:name"."""


def _first_repeated(names: tuple[str, ...]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


class SymbolConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A universal symbol. `contract`: empty = spot, CFD or not known yet. `tick_size`: quote units; None = unknown."""

    name: str
    contract: str = ""
    tick_size: Decimal | None

    def __post_init__(self) -> None:
        for key, text in (("name", self.name), ("contract", self.contract)):
            if len(text.encode()) > SYMBOL_NAME_BYTES:
                raise ValueError(f"{key} was {text!r}, must be at most {SYMBOL_NAME_BYTES} bytes; shorten it")
            if not is_plain(text):
                raise ValueError(f"{key} was {text!r}, must be {PLAIN_TEXT_WORDS}; type it again")
        if not self.name:
            raise ValueError("name was empty, must be a universal name; write one such as NQ")
        if self.tick_size is not None and not self.tick_size > 0:
            raise ValueError(f"tick_size was {self.tick_size}, must be above 0; see the contract's specification")


class LauncherConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Supervision of the child processes.

    `heartbeat_timeout_s`: a running process without a heartbeat for this long is killed and restarted; when too low, a
    busy machine kills healthy feeds. `start_timeout_s`: the same from its start to its first heartbeat, longer because
    the very first start compiles kernels. `recovery_timeout_s`: the same while it
    reads its journal, where each heartbeat stands for progress, so a long journal is read to its end. After
    `max_restarts` within `restart_window_s` the process stays down.
    `stop_grace_s`: from the request to stop until the kill. `pass_environment`: names of variables of the launcher's
    environment that the child processes get, beside those that Python and the gateway need (`shm/host/environment.py`).
    """

    heartbeat_timeout_s: Seconds = 10.0
    start_timeout_s: Seconds = 120.0
    recovery_timeout_s: Seconds = 600.0
    max_restarts: Annotated[int, Meta(ge=0, le=1000)] = 5
    restart_window_s: Seconds = 300.0
    backoff_first_s: Seconds = 0.5
    backoff_max_s: Seconds = 30.0
    stop_grace_s: Seconds = 5.0
    pass_environment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backoff_max_s < self.backoff_first_s:
            raise ValueError(
                f"backoff_max_s was {self.backoff_max_s}, must be at least backoff_first_s {self.backoff_first_s}; "
                "raise the one or lower the other"
            )


class RecorderConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recorder. `folder` None = `recordings` in the user's local data folder. A file ends at `rotate_bytes` or
    `rotate_s`, whichever comes first. `flush_ms`: a tick is handed to the operating system within this time, and then
    survives the end of the process (a power failure can still lose it). `keep_days`, `keep_bytes`: the oldest files go
    when nothing was written to them for so long, or when all files together are larger; None = never. Files that are
    being written stay.
    """

    enabled: bool = False
    folder: str | None = None
    keep_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    keep_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | None = None
    rotate_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 256 << 20
    rotate_s: Seconds = 3600.0
    flush_ms: Annotated[int, Meta(ge=1, le=60_000)] = 200

    def __post_init__(self) -> None:
        check_folder("folder", self.folder)

    @property
    def path(self) -> Path:
        """The folder of the recordings."""
        return folder_or(self.folder, host.local_data_folder() / "recordings")


_ENTRIES_OF_0_1: Final = {
    "nexus_gateway.adapters.mt5_global:Mt5GlobalAdapter": "nexus_gateway.adapters.mt5:Mt5GlobalAdapter",
    "nexus_gateway.adapters.mt5_brazil:Mt5BrazilAdapter": "nexus_gateway.adapters.mt5:Mt5BrazilAdapter",
}
"""Adapter names of release 0.1 -> their names now, so that configurations of 0.1 stay valid."""


class PlatformConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One platform. `adapter` and `symbols` have no default: else a listed platform would be simulated because a line
    was forgotten. `settings` belong to the adapter's class, which checks them with `convert_settings`.
    """

    enabled: bool = True
    adapter: str
    symbols: tuple[str, ...]
    cores: CoreList = ()
    settings: dict[str, Any] = {}

    def __post_init__(self) -> None:
        force_setattr(self, "adapter", _ENTRIES_OF_0_1.get(self.adapter, self.adapter))
        if not ENTRY_PATTERN.fullmatch(self.adapter):
            raise ValueError(
                f"adapter was {self.adapter!r}, must be 'module:Class'; for a simulation write {SIMULATOR}"
            )
        repeated = _first_repeated(self.symbols)
        if repeated is not None:
            raise ValueError(f"symbols was given {repeated!r} twice, allowed is once; remove one of the two")

    @property
    def trading(self) -> TradingSettings:
        """Which accounts may be traded. Raises ConfigError when `settings` are wrong there."""
        return convert_settings(
            TradingSettings, pick_trading_settings(self.settings), "platform_configs.yaml: settings"
        )


class GatewayFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of gateway_config.yaml.

    `run_folder` None = `host.default_run_folder()`; `log_folder` None = `logs` in the user's local data folder.
    `ring_capacity`: slots of 64 bytes, a power of two; a reader that falls further behind loses ticks (counted).
    `board_rows`: symbol ids below it have a row on each quote board. `idle`: what readers do while no tick arrives.
    `cores`: process name -> cores that it is pinned to; a process that is not named runs on any core.
    """

    run_folder: str | None = None
    log_folder: str | None = None
    log_level: LogLevel = "info"
    symbols: tuple[SymbolConfig, ...] = tuple(
        SymbolConfig(name=name, tick_size=Decimal(tick_size)) for name, tick_size in DEFAULT_TICK_SIZES.items()
    )
    # The ranges are those of TickWriter, repeated because its module imports numba, which is slow to load.
    ring_capacity: Annotated[int, Meta(ge=8, le=1 << 28)] = 1 << 16
    board_rows: Annotated[int, Meta(ge=1, le=65_536)] = 4096
    idle: IdleName = "backoff"
    launcher: LauncherConfig = LauncherConfig()
    cores: dict[str, CoreList] = {}
    recorder: RecorderConfig = RecorderConfig()
    disk: DiskConfig = DiskConfig()
    orders: OrdersConfig = OrdersConfig()
    rollover: RolloverConfig = RolloverConfig()

    def __post_init__(self) -> None:
        check_folder("run_folder", self.run_folder)
        check_folder("log_folder", self.log_folder)
        if self.ring_capacity & (self.ring_capacity - 1):
            near = 1 << self.ring_capacity.bit_length()
            raise ValueError(f"ring_capacity was {self.ring_capacity}, must be a power of two; write {near}")
        repeated = _first_repeated(tuple(symbol.name for symbol in self.symbols))
        if repeated is not None:
            raise ValueError(f"symbols was given {repeated!r} twice, allowed is once; remove one of the two")
        if len(self.symbols) > MAX_CONFIGURED:
            raise ValueError(
                f"symbols had {len(self.symbols)} entries, allowed are {MAX_CONFIGURED} (ids are kept for "
                f"{IDS_FOR_CONTRACTS} contracts of rolls); remove those that no platform quotes"
            )
        if len(self.symbols) >= self.board_rows:
            raise ValueError(f"board_rows was {self.board_rows}, must exceed the {len(self.symbols)} symbols; raise it")
        for process in self.cores:
            try:
                check_name(process)
            except ValueError as error:
                raise ValueError(f"cores: process {error}") from None


def _simulate_platforms() -> dict[str, PlatformConfig]:
    return {key: PlatformConfig(adapter=SIMULATOR, symbols=DEFAULT_PLATFORM_SYMBOLS[key]) for key in PLATFORM_KEYS}


class GatewayConfig(GatewayFile, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration, checked. `platforms`: by platform key, in the order of starting. `limits`: from
    risk_limits.yaml. `stand_ins`: platform -> root -> the instrument that is traded there instead, from
    symbol_mappings.json. `symbols_file`: that file; None = the embedded one.
    """

    platforms: dict[str, PlatformConfig] = field(default_factory=_simulate_platforms)
    limits: Limits = field(default_factory=make_default_limits)
    stand_ins: dict[str, dict[str, str]] = field(default_factory=lambda: dict(DEFAULT_STAND_INS))
    symbols_file: str | None = None

    @property
    def run_path(self) -> Path:
        """The run folder in force."""
        return folder_or(self.run_folder, host.default_run_folder())

    @property
    def log_path(self) -> Path:
        """The log folder in force."""
        return folder_or(self.log_folder, host.local_data_folder() / "logs")

    @property
    def keys_path(self) -> Path:
        """The folder of the keys by which the gateway and all that connect to it prove themselves."""
        return folder_or(self.orders.keys_folder, self.run_path / "keys")

    @property
    def journal_path(self) -> Path:
        """The journal of this run folder's gateway. Not inside it: on Linux that is memory, and lost at a reboot."""
        run_path = self.run_path
        name = "orders"
        if run_path != host.default_run_folder():
            name += "-" + hashlib.blake2b(str(run_path.absolute()).encode(), digest_size=4).hexdigest()
        return folder_or(self.orders.journal, host.local_data_folder() / "journal" / f"{name}.sqlite")

    def cores_of(self, process: str) -> tuple[int, ...]:
        """Cores that a process is pinned to; empty = any core."""
        if process in self.platforms:
            return self.platforms[process].cores
        return self.cores.get(process, ())

    def rolling_roots(self, futures: Container[str]) -> list[str]:
        """The symbols whose front contract the gateway chooses. `futures`: symbols of the catalog's futures."""
        # Replays keep the contracts that were current on the recorded day.
        replays = any(each.adapter.startswith(_REPLAY) for each in self.platforms.values())
        if replays or not self.rollover.enabled:
            return []
        return [each.name for each in self.symbols if each.name in futures]

    def symbol(self, name: str) -> SymbolConfig:
        """The entry of a universal name. Raises KeyError."""
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise KeyError(f"symbol was {name!r}; gateway_config.yaml does not list it")


def platform_of(key: str) -> Platform:
    """The platform id of a configuration key. Raises ValueError, listing the keys."""
    if key not in PLATFORM_KEYS:
        raise ValueError(f"platform was {key!r}; use one of {', '.join(PLATFORM_KEYS)}")
    return Platform.parse(key)
