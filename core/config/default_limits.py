"""The limits of the embedded default. They equal config/risk_limits.yaml, whose comments explain them."""

from __future__ import annotations

from decimal import Decimal

from ..risk.limits import Limits, Micro, Stage


def make_default_limits() -> Limits:
    """The four stages of going live, at stage 1, with the shipped limits."""
    return Limits(
        stage=1,
        stages={
            1: Stage(
                name="minimal",
                platforms=("mt5",),
                symbols=("NQ",),
                max_size=Decimal(1),
                size_unit="micro",
                max_trades_per_day=5,
                risk_per_trade_usd=Decimal(50),
                confirmation="I go back to one micro contract",
            ),
            2: Stage(
                name="expand platforms",
                platforms=("mt5", "nt8"),
                symbols=("NQ",),
                max_size=Decimal(1),
                max_trades_per_day=10,
                risk_per_trade_usd=Decimal(75),
                confirmation="I have read the evidence and promote to stage 2",
            ),
            3: Stage(
                name="add symbols",
                platforms=("mt5", "nt8", "sierra"),
                symbols=("NQ", "ES", "YM"),
                max_size=Decimal(2),
                max_trades_per_day=20,
                risk_per_trade_usd=Decimal(100),
                confirmation="I have read the evidence and promote to stage 3",
            ),
            4: Stage(
                name="full scale",
                platforms=("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower"),
                symbols=("NQ", "ES", "YM", "RTY", "CL", "GC", "SI", "6E", "6B", "6J", "ZN", "ZB", "WIN", "WDO"),
                max_size=Decimal(5),
                max_trades_per_day=50,
                risk_per_trade_usd=Decimal(200),
                confirmation="I have read the evidence and promote to stage 4",
            ),
        },
        micro_contracts={
            "NQ": Micro(symbol="MNQ", point_value_usd=Decimal(2)),
            "ES": Micro(symbol="MES", point_value_usd=Decimal(5)),
            "YM": Micro(symbol="MYM", point_value_usd=Decimal("0.5")),
            "RTY": Micro(symbol="M2K", point_value_usd=Decimal(5)),
            "CL": Micro(symbol="MCL", point_value_usd=Decimal(100)),
            "GC": Micro(symbol="MGC", point_value_usd=Decimal(10)),
        },
        day_zone="America/Chicago",
        day_starts="17:00",
        max_position={"WIN": Decimal(10), "WDO": Decimal(10)},
        max_position_default=Decimal(5),
        max_notional_usd=Decimal(3_000_000),
        max_daily_loss_usd=Decimal(500),
        max_drawdown_usd=Decimal(1_500),
        max_orders_per_s=200,
        max_orders_per_s_per_platform=50,
        max_same_side_entries=10,
        same_side_window_ms=60_000,
        collar_ticks=200,
        max_spread_ticks=40,
        max_quote_age_ms=2_000,
        max_rate_age_ms=60_000,
        lookalike_window_ms=2_000,
        max_signal_age_ms=10_000,
        repeated_entries_latch=True,
        max_working_orders=1_000,
        max_working_orders_per_platform=250,
        max_traded_notional_usd=None,
        max_messages_per_fill=100,
        messages_before_ratio=1_000,
    )
