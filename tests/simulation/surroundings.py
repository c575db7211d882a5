"""What a gateway process has around it, as far as the simulation has no interest in it: log, counters, kill
file, limits."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

from nexus_gateway.core import messages as m
from nexus_gateway.core.risk import Limits, Stage


def _nothing(*_: object, **__: object) -> None:
    pass


def make_log() -> SimpleNamespace:
    return SimpleNamespace(debug=_nothing, info=_nothing, warning=_nothing, error=_nothing, exception=_nothing)


def make_kill_file() -> SimpleNamespace:
    """One without an instruction."""
    return SimpleNamespace(
        level=m.KillLevel.NORMAL,
        trouble="",
        pending=lambda find_state: iter(()),
        level_of=lambda platform: m.KillLevel.NORMAL,
        note_resume=_nothing,
        remove_resumed=_nothing,
    )


def make_counters(counts: dict[str, int]) -> SimpleNamespace:
    """`counts`: filled with what the gateway adds to its counters."""

    def add(name: str, amount: int = 1) -> None:
        counts[name] = counts.get(name, 0) + amount

    return SimpleNamespace(
        add=add,
        reject=_nothing,
        count_signal=lambda *_: add("signals"),
        observe=_nothing,
        set_kill_file=_nothing,
        publish=_nothing,
        end_recovery=_nothing,
    )


def make_limits(
    platforms: tuple[str, ...], trades: int, lots: int, day_starts: str, loss_usd: int, max_size: int
) -> Limits:
    stage = Stage(
        name="simulation",
        platforms=platforms,
        symbols=("NQ",),
        max_size=Decimal(max_size),
        max_trades_per_day=trades,
        risk_per_trade_usd=Decimal(max(200, 30 * max_size)),
        confirmation="simulation",
    )
    return Limits(
        stage=1,
        stages={1: stage},
        micro_contracts={},
        day_zone="America/Chicago",
        day_starts=day_starts,
        max_position={},
        max_position_default=Decimal(lots),
        max_notional_usd=None,
        max_daily_loss_usd=Decimal(loss_usd),
        max_drawdown_usd=None,
        max_orders_per_s=None,
        max_orders_per_s_per_platform=None,
        max_same_side_entries=None,
        same_side_window_ms=60_000,
        collar_ticks=200,
        max_spread_ticks=40,
        max_quote_age_ms=5_000,
        max_rate_age_ms=60_000,
        lookalike_window_ms=0,
        max_signal_age_ms=10_000,
    )
