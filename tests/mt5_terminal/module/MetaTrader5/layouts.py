"""The fields of every structure, in the order of the real module (mt5.md A.4): `name:type`.

Types: i int, f float, b bool, s str, r a nested TradeRequest. One place for both ends: the module makes its types from
it, the stand-in its rows. `tests/mt5_terminal/test_wheel.py` compares the names with the tables in the compiled module.
"""

from __future__ import annotations

from typing import Final

_GREEKS = " ".join(f"price_greeks_{name}" for name in ["delta", "theta", "gamma", "vega", "rho", "omega"])


def _of(kind: str, names: str) -> str:
    return " ".join(f"{name}:{kind}" for name in names.split())


_SOURCES: Final = {
    "Tick": "time:i bid:f ask:f last:f volume:i time_msc:i flags:i volume_real:f",
    "BookInfo": "type:i price:f volume:i volume_dbl:f",
    "TradeRequest": "action:i magic:i order:i symbol:s volume:f price:f stoplimit:f sl:f tp:f deviation:i type:i "
    "type_filling:i type_time:i expiration:i comment:s position:i position_by:i",
    "OrderSendResult": "retcode:i deal:i order:i volume:f price:f bid:f ask:f comment:s request_id:i "
    "retcode_external:i request:r",
    "OrderCheckResult": "retcode:i balance:f equity:f profit:f margin:f margin_free:f margin_level:f comment:s "
    "request:r",
    "TradePosition": "ticket:i time:i time_msc:i time_update:i time_update_msc:i type:i magic:i identifier:i reason:i "
    "volume:f price_open:f sl:f tp:f price_current:f swap:f profit:f symbol:s comment:s external_id:s",
    "TradeOrder": "ticket:i time_setup:i time_setup_msc:i time_done:i time_done_msc:i time_expiration:i type:i "
    "type_time:i type_filling:i state:i magic:i position_id:i position_by_id:i reason:i volume_initial:f "
    "volume_current:f price_open:f sl:f tp:f price_current:f price_stoplimit:f symbol:s comment:s external_id:s",
    "TradeDeal": "ticket:i order:i time:i time_msc:i type:i entry:i magic:i position_id:i reason:i volume:f price:f "
    "commission:f swap:f profit:f fee:f symbol:s comment:s external_id:s",
    "AccountInfo": "login:i trade_mode:i leverage:i limit_orders:i margin_so_mode:i trade_allowed:b trade_expert:b "
    "margin_mode:i currency_digits:i fifo_close:b "
    + _of(
        "f",
        "balance credit profit equity margin margin_free margin_level margin_so_call margin_so_so margin_initial "
        "margin_maintenance assets liabilities commission_blocked",
    )
    + " name:s server:s currency:s company:s",
    "TerminalInfo": _of(
        "b",
        "community_account community_connection connected dlls_allowed trade_allowed tradeapi_disabled email_enabled "
        "ftp_enabled notifications_enabled mqid",
    )
    + " build:i maxbars:i codepage:i ping_last:i community_balance:f retransmission:f company:s name:s language:s "
    "path:s data_path:s commondata_path:s",
    "SymbolInfo": "custom:b chart_mode:i select:b visible:b session_deals:i session_buy_orders:i session_sell_orders:i "
    "volume:i volumehigh:i volumelow:i time:i digits:i spread:i spread_float:b ticks_bookdepth:i trade_calc_mode:i "
    "trade_mode:i start_time:i expiration_time:i trade_stops_level:i trade_freeze_level:i trade_exemode:i swap_mode:i "
    "swap_rollover3days:i margin_hedged_use_leg:b expiration_mode:i filling_mode:i order_mode:i order_gtc_mode:i "
    "option_mode:i option_right:i "
    + _of(
        "f",
        "bid bidhigh bidlow ask askhigh asklow last lasthigh lastlow volume_real volumehigh_real volumelow_real "
        "option_strike point trade_tick_value trade_tick_value_profit trade_tick_value_loss trade_tick_size "
        "trade_contract_size trade_accrued_interest trade_face_value trade_liquidity_rate volume_min volume_max "
        "volume_step volume_limit swap_long swap_short margin_initial margin_maintenance session_volume "
        "session_turnover session_interest session_buy_orders_volume session_sell_orders_volume session_open "
        "session_close session_aw session_price_settlement session_price_limit_min session_price_limit_max "
        f"margin_hedged price_change price_volatility price_theoretical {_GREEKS} price_sensitivity",
    )
    + " "
    + _of(
        "s",
        "basis category currency_base currency_profit currency_margin bank description exchange formula isin name "
        "page path",
    ),
}

LAYOUTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    name: tuple((field.split(":")[0], field.split(":")[1]) for field in source.split())
    for name, source in _SOURCES.items()
}
"""Structure -> (field, type) in order."""

TICK_DTYPE: Final = [
    ("time", "<i8"),
    ("bid", "<f8"),
    ("ask", "<f8"),
    ("last", "<f8"),
    ("volume", "<u8"),
    ("time_msc", "<i8"),
    ("flags", "<u4"),
    ("volume_real", "<f8"),
]
RATE_DTYPE: Final = [
    ("time", "<i8"),
    ("open", "<f8"),
    ("high", "<f8"),
    ("low", "<f8"),
    ("close", "<f8"),
    ("tick_volume", "<u8"),
    ("spread", "<i4"),
    ("real_volume", "<u8"),
]
