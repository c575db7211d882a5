"""Limits as they stand in config/risk_limits.yaml: typed, complete, and refused as a whole when one value
is wrong.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml
from msgspec import Meta, Struct

from ..errors import ConfigError

Positive = Annotated[int, Meta(gt=0)]
Ratio = Annotated[int, Meta(ge=0)]


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the steps of going live. `size_unit` micro: sizes are counted in micro contracts of the root."""

    name: str
    platforms: tuple[str, ...]
    symbols: tuple[str, ...]
    max_size: Decimal
    size_unit: Literal["contract", "micro"] = "contract"
    max_trades_per_day: Positive
    risk_per_trade_usd: Decimal
    confirmation: str


class Micro(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The micro contract of a root: its symbol and USD per point."""

    symbol: str
    point_value_usd: Decimal


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit of the gateway. None switches the check off; there are no other defaults than those in the
    file.

    Money in USD, times in ms, distances in ticks, sizes in lots; `*_per_s` count orders in the last second.
    """

    stage: Positive
    stages: dict[int, Stage]
    micro_contracts: dict[str, Micro]
    day_zone: str
    day_starts: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    max_position: dict[str, Decimal]
    max_position_default: Decimal
    max_notional_usd: Decimal | None
    max_daily_loss_usd: Decimal | None
    max_drawdown_usd: Decimal | None
    max_orders_per_s: Positive | None
    max_orders_per_s_per_platform: Positive | None
    max_same_side_entries: Positive | None
    same_side_window_ms: Positive
    collar_ticks: Positive | None
    max_spread_ticks: Positive | None
    max_quote_age_ms: Positive
    max_rate_age_ms: Positive
    lookalike_window_ms: Ratio
    max_signal_age_ms: Positive

    def __post_init__(self) -> None:
        if self.stage not in self.stages:
            raise ValueError(f"stage was {self.stage}, but only {sorted(self.stages)} are described")
        amounts = [self.max_position_default, *self.max_position.values()]
        amounts += [m for m in (self.max_notional_usd, self.max_daily_loss_usd, self.max_drawdown_usd) if m is not None]
        for stage in self.stages.values():
            amounts += [stage.max_size, stage.risk_per_trade_usd]
        for amount in amounts:
            if not amount.is_finite() or amount <= 0:
                raise ValueError(f"every limit must be a finite number above zero, one was {amount}")
        for root, micro in self.micro_contracts.items():
            if not micro.point_value_usd.is_finite() or micro.point_value_usd <= 0:
                raise ValueError(f"point_value_usd of {root}'s micro was {micro.point_value_usd}")
        try:
            ZoneInfo(self.day_zone)
        except (KeyError, ValueError) as error:
            raise ValueError(f"day_zone was {self.day_zone!r}, which is no time zone") from error

    def root_of(self, symbol: str) -> str:
        """The root whose stage list covers this symbol: MNQ trades under NQ."""
        for root, micro in self.micro_contracts.items():
            if symbol == micro.symbol:
                return root
        return symbol


def read_limits(path: Path) -> Limits:
    """Read and check a limits file. Any process; reads the one file.

    Raises: ConfigError naming the file and the key; nothing of the file is used then.
    """
    try:
        built = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"risk limits {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"risk limits {path} are not valid YAML: {error}") from error
    try:
        return msgspec.convert(built, Limits, strict=True, str_keys=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"risk limits {path}: {error}") from error
