"""The only list of reject codes: reasons why something is refused, counted or flagged.

The codes are for programs. People read the `text` beside the code, which names the value, the limit and the cure.
"""

from __future__ import annotations

import enum


class RejectCode(enum.StrEnum):
    """Reason of a reject, grouped by what refuses."""

    NONE = "none"

    # The message itself.
    MALFORMED = "malformed"
    WRONG_VERSION = "wrong_version"
    TOO_LARGE = "too_large"
    NOT_ALLOWED = "not_allowed"

    # The signal.
    DUPLICATE_SIGNAL = "duplicate_signal"
    LOOKALIKE_SIGNAL = "lookalike_signal"
    STALE_SIGNAL = "stale_signal"
    UNKNOWN_SIGNAL = "unknown_signal"
    UNKNOWN_ORDER = "unknown_order"
    SIZE_BELOW_LOT = "size_below_lot"
    NOT_ON_LOT_STEP = "not_on_lot_step"
    NOT_ON_TICK = "not_on_tick"
    PARENT_EXCEEDED = "parent_exceeded"
    NOTHING_TO_CLOSE = "nothing_to_close"
    BRACKET_INVALID = "bracket_invalid"

    # The platform's state as the gateway knows it.
    PLATFORM_UNKNOWN = "platform_unknown"
    ACCOUNT_AMBIGUOUS = "account_ambiguous"
    PLATFORM_NOT_READY = "platform_not_ready"
    OUTCOME_UNKNOWN = "outcome_unknown"
    CONTRADICTION = "contradiction"
    POSITION_MISMATCH = "position_mismatch"
    OPPOSED_POSITION = "opposed_position"
    IDENTITY_MISMATCH = "identity_mismatch"
    UNSUPPORTED_TYPE = "unsupported_type"
    UNSUPPORTED_TIF = "unsupported_tif"
    UNSUPPORTED_BRACKET = "unsupported_bracket"
    UNSUPPORTED_REPLACE = "unsupported_replace"

    # Risk.
    KILL_SWITCH = "kill_switch"
    STAGE_PLATFORM = "stage_platform"
    STAGE_SYMBOL = "stage_symbol"
    MAX_SIZE = "max_size"
    MAX_TRADES_PER_DAY = "max_trades_per_day"
    RISK_PER_TRADE = "risk_per_trade"
    RISK_NOT_MEASURABLE = "risk_not_measurable"
    MAX_POSITION = "max_position"
    MAX_NOTIONAL = "max_notional"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    ORDER_RATE = "order_rate"
    REPEATED_ENTRIES = "repeated_entries"
    LATCHED = "latched"
    MAX_WORKING_ORDERS = "max_working_orders"
    MAX_TRADED_NOTIONAL = "max_traded_notional"
    MESSAGES_PER_FILL = "messages_per_fill"
    PRICE_COLLAR = "price_collar"
    BAD_QUOTE = "bad_quote"
    STALE_QUOTE = "stale_quote"
    STALE_RATE = "stale_rate"
    CONTRACT_EXPIRED = "contract_expired"
    SESSION_CLOSED = "session_closed"
    NO_MARKET_CONTEXT = "no_market_context"
    NOT_FINITE = "not_finite"

    # The adapter or the platform.
    TOO_LATE_TO_SEND = "too_late_to_send"
    ADAPTER_LIMIT = "adapter_limit"
    LINK_DOWN = "link_down"
    PLATFORM_REJECTED = "platform_rejected"
    CANCEL_REJECTED = "cancel_rejected"
    REPLACE_REJECTED = "replace_rejected"
    NOT_FOUND_AT_PLATFORM = "not_found_at_platform"
    GONE_AT_PLATFORM = "gone_at_platform"
