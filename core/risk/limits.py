"""The limits of config/risk_limits.yaml: typed, complete, and refused as a whole when one value is wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml
from msgspec import Meta, Struct

from ..bounds import MAX_DECIMAL_PLACES, MAX_MAGNITUDE, is_bounded, show_decimal
from ..errors import ConfigError

Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
_BOUNDS: Final = f"at most {MAX_DECIMAL_PLACES} decimals, up to {MAX_MAGNITUDE:f}"


class Stage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the stages of going live."""

    name: str  # for people
    platforms: tuple[str, ...]  # platforms that may be traded
    symbols: tuple[str, ...]  # roots that may be traded, their micro contracts included
    max_size: Decimal  # largest order, in `size_unit`
    size_unit: Literal["contract", "micro"] = "contract"  # micro: sizes are converted to micro contracts of the root
    max_trades_per_day: Positive  # signals that open risk
    risk_per_trade_usd: Decimal  # loss of one order at its stop
    confirmation: str  # sentence that the operator types to go up to this stage


class Micro(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The micro contract of a root: its symbol and USD per point."""

    symbol: str
    point_value_usd: Decimal


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every limit of the gateway. None switches the check off.

    `read_limits` demands every key of the file. The defaults below are for the journals of releases that did not have
    these limits: a check that did not exist is off in their replay.
    """

    stage: Positive  # stage of a new journal
    stages: dict[int, Stage]  # number -> stage
    micro_contracts: dict[str, Micro]  # root -> its micro contract
    day_zone: str  # time zone of the trading day
    day_starts: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d\Z")]  # its start there, hh:mm
    max_position: dict[str, Decimal]  # symbol -> largest net position on one account, lots
    max_position_default: Decimal  # the same for symbols that `max_position` does not name
    max_notional_usd: Decimal | None  # largest value of one order
    max_daily_loss_usd: Decimal | None  # loss of the trading day, all accounts, at which REDUCE_ONLY is set
    max_drawdown_usd: Decimal | None  # distance from the highest equity, all accounts, at which it is set
    max_orders_per_s: Positive | None  # orders and replaces in the last second, all accounts
    max_orders_per_s_per_platform: Positive | None  # the same for one account
    max_same_side_entries: Positive | None  # entries of one account, symbol and side within `same_side_window_ms`
    same_side_window_ms: Positive
    collar_ticks: Positive | None  # largest distance of an order's price from the quote
    max_spread_ticks: Positive | None  # widest spread to open in
    max_quote_age_ms: Positive  # an older quote refuses an entry
    max_rate_age_ms: Positive  # an older currency rate refuses an entry
    lookalike_window_ms: NotNegative  # a second signal of one symbol and side within this is refused; 0 = none is
    max_signal_age_ms: Positive  # an older signal is refused as stale
    repeated_entries_latch: bool = False  # True = once `max_same_side_entries` has refused, it bars until `resume`
    max_working_orders: Positive | None = None  # our orders that may work at the same time, all accounts
    max_working_orders_per_platform: Positive | None = None  # the same for one account
    max_traded_notional_usd: Decimal | None = None  # value of a day's executions, both sides, and of working entries
    max_messages_per_fill: Positive | None = None  # orders, replaces and cancels for each execution, one account, a day
    messages_before_ratio: NotNegative = 0  # `max_messages_per_fill` is not checked at fewer messages than this a day

    def __post_init__(self) -> None:
        if self.stage not in self.stages:
            raise ValueError(f"stage was {self.stage}, but only {sorted(self.stages)} are described")
        amounts = [self.max_position_default, *self.max_position.values()]
        money = (self.max_notional_usd, self.max_traded_notional_usd, self.max_daily_loss_usd, self.max_drawdown_usd)
        amounts += [amount for amount in money if amount is not None]
        for stage in self.stages.values():
            amounts += [stage.max_size, stage.risk_per_trade_usd]
        for amount in amounts:
            if not is_bounded(amount) or amount <= 0:
                raise ValueError(
                    f"every limit must be a finite number above zero, one was {show_decimal(amount)}; {_BOUNDS}"
                )
        for root, micro in self.micro_contracts.items():
            if not is_bounded(micro.point_value_usd) or micro.point_value_usd <= 0:
                shown = show_decimal(micro.point_value_usd)
                raise ValueError(f"point_value_usd of {root}'s micro was {shown}; above zero, {_BOUNDS}")
        try:
            ZoneInfo(self.day_zone)
        except (KeyError, ValueError) as error:
            raise ValueError(f"day_zone was {self.day_zone!r}, which is no time zone") from error

    def root_of(self, symbol: str) -> str:
        """Return the root under which a stage lists this symbol: NQ for MNQ."""
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
    if isinstance(built, dict):
        # `Limits` has defaults for old journals. A limit that a person has forgotten must not be off in silence.
        missing = [name for name in Limits.__struct_fields__ if name not in built]
        if missing:
            raise ConfigError(
                f"risk limits {path}: missing {', '.join(missing)}; every limit must be written, null switches one off "
                "where it may be off: copy the lines from config/risk_limits.yaml"
            )
    try:
        return msgspec.convert(built, Limits, strict=True, str_keys=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"risk limits {path}: {error}") from error
