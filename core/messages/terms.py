"""The closed word lists of the protocol. A word outside its list is refused when a message is decoded."""

from __future__ import annotations

import enum


class Side(enum.StrEnum):
    """Direction of an order or a fill."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other direction."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(enum.StrEnum):
    """What an adapter is asked to place."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(enum.StrEnum):
    """How long an order lives. GTD carries `good_till_ns`."""

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"


class FanOutKind(enum.StrEnum):
    """What the legs of one signal owe each other (docs/orders.md)."""

    BEST_EFFORT = "best_effort"
    ALL_OR_FLATTEN = "all_or_flatten"
    QUORUM = "quorum"
    PRIMARY_THEN_HEDGE = "primary_then_hedge"


class Allocation(enum.StrEnum):
    """Whether the signal's quantity is meant for each leg, or is shared among the legs."""

    EACH = "each"
    SPLIT = "split"


class LegState(enum.StrEnum):
    """State of an order, and of the leg it belongs to. `unknown` is never guessed away."""

    PENDING = "pending"
    SENT = "sent"
    WORKING = "working"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def final(self) -> bool:
        """True when the platform is done with the order. Late executions still count."""
        return self in FINAL_STATES


FINAL_STATES = frozenset((LegState.FILLED, LegState.CANCELLED, LegState.REJECTED, LegState.EXPIRED))


class SignalState(enum.StrEnum):
    """State of a whole signal."""

    REJECTED = "rejected"
    WORKING = "working"
    FILLED = "filled"
    PARTIAL = "partial"
    FLATTENING = "flattening"
    FLATTENED = "flattened"
    NOT_FILLED = "not_filled"
    UNKNOWN = "unknown"
    CLOSED = "closed"


class Protection(enum.StrEnum):
    """Where a leg's stop loss and take profit live, and so what dies with the gateway."""

    NONE = "none"
    PLATFORM = "platform"
    GATEWAY = "gateway"


class AccountMode(enum.StrEnum):
    """Netting: an opposite order reduces the position. Hedging: it opens a second one; close by ticket."""

    NETTING = "netting"
    HEDGING = "hedging"


class CorrectionKind(enum.StrEnum):
    """A bust removes an execution, a correction replaces its quantity and price."""

    BUST = "bust"
    CORRECT = "correct"


class KillLevel(enum.IntEnum):
    """Rungs of the kill ladder; each includes the ones below it."""

    NORMAL = 0
    NO_NEW = 1
    REDUCE_ONLY = 2
    CANCEL_ALL = 3
    FLATTEN = 4
    SEVER = 5


class Role(enum.StrEnum):
    """Who is at the other end of a link."""

    ADAPTER = "adapter"
    NEXUS = "nexus"
    ADMIN = "admin"


class QueryKind(enum.StrEnum):
    """What an admin or NEXUS asks to see."""

    POSITIONS = "positions"
    WORKING_ORDERS = "working_orders"
    EXECUTIONS = "executions"
    ACCOUNT = "account"
    REPORT = "report"
    STATUS = "status"
