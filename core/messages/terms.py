"""Enumerations of the protocol. A value outside its list is refused when a message is decoded."""

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
    """Type of an order."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(enum.StrEnum):
    """How long an order stays in force. GTD needs `good_till_ns`."""

    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"


class FanOutKind(enum.StrEnum):
    """Fan-out policies of a signal's legs (docs/orders.md)."""

    BEST_EFFORT = "best_effort"
    ALL_OR_FLATTEN = "all_or_flatten"
    QUORUM = "quorum"
    PRIMARY_THEN_HEDGE = "primary_then_hedge"


class Allocation(enum.StrEnum):
    """Whether the signal's quantity is that of each leg, or is split among the legs."""

    EACH = "each"
    SPLIT = "split"


class LegState(enum.StrEnum):
    """State of an order, and of its leg. Only the platform's answer or an operator ends `unknown`, never a guess."""

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
        """Whether the order has ended at the platform. Late executions still count."""
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
    """Where a leg's stop loss and take profit are kept. Those kept by the gateway do not work while it is down."""

    NONE = "none"
    PLATFORM = "platform"
    GATEWAY = "gateway"


class StopPlace(enum.StrEnum):
    """Where a working stop lives, so what has to fail before it does not work: the exchange, the platform's server,
    the platform's program on its computer. Unknown: the platform does not say.
    """

    UNKNOWN = "unknown"
    EXCHANGE = "exchange"
    SERVER = "server"
    COMPUTER = "computer"


class AccountMode(enum.StrEnum):
    """Netting: an opposite order reduces the position. Hedging: it opens a second one; positions close by ticket."""

    NETTING = "netting"
    HEDGING = "hedging"


class CorrectionKind(enum.StrEnum):
    """A bust removes an execution, a correction replaces its quantity and price."""

    BUST = "bust"
    CORRECT = "correct"


class ContradictionKind(enum.StrEnum):
    """How something that a platform has said cannot be true."""

    WRONG_SIDE = "wrong_side"  # an execution on the other side than its order
    WRONG_SYMBOL = "wrong_symbol"  # an execution of another symbol than its order
    OVERFILL = "overfill"  # executions add up to more than their order's quantity
    REUSED_ID = "reused_id"  # one execution id with another order, symbol, side, price, quantity or day
    IMPOSSIBLE_PRICE = "impossible_price"  # a price that the instrument cannot have
    WRONG_ORDER = "wrong_order"  # an order status of another symbol, side or size than the order
    POSITION = "position"  # a position that the executions do not add up to


class KillLevel(enum.IntEnum):
    """Kill levels; each includes those below it."""

    NORMAL = 0
    NO_NEW = 1
    REDUCE_ONLY = 2
    CANCEL_ALL = 3
    FLATTEN = 4
    SEVER = 5


class Role(enum.StrEnum):
    """Kind of peer at the other end of a link."""

    ADAPTER = "adapter"
    NEXUS = "nexus"
    ADMIN = "admin"


class QueryKind(enum.StrEnum):
    """What a query asks for."""

    POSITIONS = "positions"
    WORKING_ORDERS = "working_orders"
    EXECUTIONS = "executions"
    ACCOUNT = "account"
    REPORT = "report"
    STATUS = "status"
    ACCOUNT_STATE = "account_state"
