"""The configuration of the gateway process: ports, journal, waiting times."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ..bounds import is_bounded
from .folders import check_folder


class OrdersConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway process, which trades.

    `host` other than loopback needs the key of another machine (docs/operations.md). Port 0 = the socket file in the
    run folder only. `mute_after_ms`: a link that is unresponsive for this long is cut. `queue_messages`: limit of each
    peer's queue; a full one cuts the link.
    `keys_folder` None = `keys` in the run folder. `journal` None = a file in the user's local data folder, one
    for each run folder. `durability` process: a power cut may lose the last orders. `checkpoint_events`,
    `checkpoint_bytes`, `checkpoint_replay_ms`: the engine's state is saved when so many events, bytes of events or so
    much processor time of them have come since the last time, whichever is first. `send_within_ms`, `ack_ms`,
    `settle_ms`: see `EngineSettings`. `proof_ms`: each platform is compared with the books this often. `keep_days`:
    older events of the journal move to compressed archives beside it; at least 8, since the engine remembers 7; None =
    never. `finished_after_ms`: a signal that has been over for this long leaves the gateway's memory, and is kept as
    rows of the journal. `overfills`: whether lots that a platform has filled beyond an order's size, confirmed by two
    snapshots, are closed at the market or kept.
    `cancel_on_disconnect_ms`: the working entries of a NEXUS that has had no session for this long are cancelled.
    `usd_rates`: USD for one unit of a currency, used when no other rate is fresh. `rates_file`: daily reference rates,
    used when no live rate is fresh and the newest row is at most `rates_file_age_h` old. `instruments_file`,
    `hours_file`: your own instruments and trading hours. The three files are described in docs/instruments.md.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    adapter_port: Annotated[int, Meta(ge=0, le=65_535)] = 5555
    nexus_port: Annotated[int, Meta(ge=0, le=65_535)] = 5556
    heartbeat_ms: Annotated[int, Meta(ge=10, le=60_000)] = 500
    mute_after_ms: Annotated[int, Meta(ge=20, le=600_000)] = 2_000
    queue_messages: Annotated[int, Meta(ge=10, le=1_000_000)] = 4_096
    max_peers: Annotated[int, Meta(ge=1, le=10_000)] = 256
    keys_folder: str | None = None
    journal: str | None = None
    durability: Literal["power", "process"] = "power"
    checkpoint_events: Annotated[int, Meta(ge=100, le=10_000_000)] = 20_000
    checkpoint_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 34)] = 16 << 20
    checkpoint_replay_ms: Annotated[int, Meta(ge=10, le=600_000)] = 500
    send_within_ms: Annotated[int, Meta(ge=10, le=600_000)] = 1_000
    ack_ms: Annotated[int, Meta(ge=10, le=600_000)] = 2_000
    settle_ms: Annotated[int, Meta(ge=10, le=600_000)] = 3_000
    proof_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 30_000
    keep_days: Annotated[int, Meta(ge=8, le=36_500)] | None = 30
    finished_after_ms: Annotated[int, Meta(ge=10_000, le=86_400_000)] = 600_000
    overfills: Literal["close", "keep"] = "close"
    cancel_on_disconnect_ms: Annotated[int, Meta(ge=500, le=86_400_000)] | None = None
    usd_rates: dict[str, Decimal] = {}
    rates_file: str | None = None
    rates_file_age_h: Annotated[float, Meta(gt=0, le=8_784)] = 120.0
    instruments_file: str | None = None
    hours_file: str | None = None

    @property
    def instruments_path(self) -> Path | None:
        """The user's own instruments; None = only the shipped ones."""
        return None if self.instruments_file is None else Path(self.instruments_file).expanduser()

    @property
    def rates_path(self) -> Path | None:
        """The file of daily reference rates; None = no file."""
        return None if self.rates_file is None else Path(self.rates_file).expanduser()

    @property
    def hours_path(self) -> Path | None:
        """The user's own trading hours; None = only the shipped ones."""
        return None if self.hours_file is None else Path(self.hours_file).expanduser()

    def __post_init__(self) -> None:
        for key in ("keys_folder", "journal", "instruments_file", "hours_file", "rates_file"):
            check_folder(key, getattr(self, key))
        if self.mute_after_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"mute_after_ms was {self.mute_after_ms}, must be at least twice heartbeat_ms {self.heartbeat_ms}; "
                "else one late heartbeat cuts the link"
            )
        if self.settle_ms <= self.send_within_ms:
            raise ValueError(
                f"settle_ms was {self.settle_ms}, must exceed send_within_ms {self.send_within_ms}; "
                "else an order on its way is presumed lost"
            )
        if self.finished_after_ms <= self.settle_ms:
            raise ValueError(
                f"finished_after_ms was {self.finished_after_ms}, must exceed settle_ms {self.settle_ms}; what has "
                "happened within that time may still be missing in a snapshot"
            )
        if self.adapter_port and self.adapter_port == self.nexus_port:
            raise ValueError(f"nexus_port was {self.nexus_port}, must differ from adapter_port; write another")
        for currency, rate in self.usd_rates.items():
            if not (is_bounded(rate) and rate > 0):
                raise ValueError(f"usd_rates.{currency} was {rate}, must be above 0; write USD for one {currency}")
