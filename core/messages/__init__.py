"""Every message that travels between NEXUS, the gateway and the adapters.

Typed structs (msgspec), MessagePack on the wire, JSON for people. A message is validated when it is
decoded; nothing in here opens a socket, reads a clock or keeps state, and any process may import it.

    from nexus_gateway.core.messages import Signal, Envelope, decode, encode
"""

from __future__ import annotations

from .account import (
    Account,
    Executions,
    Position,
    Positions,
    Snapshot,
    SnapshotRequest,
    WorkingOrder,
    WorkingOrders,
)
from .admin import Acknowledge, AdminResult, Kill, Query, Resume, StageChange
from .codes import RejectCode
from .envelope import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Envelope,
    Message,
    MessageError,
    decode,
    decode_json,
    encode,
    encode_json,
)
from .order_id import OrderIdParts, OrderRole, client_order_id, find_client_order_id, magic_number, signal_key
from .orders import Cancel, Correction, Fill, Order, OrderUpdate, Reject, Replace
from .session import Capabilities, Heartbeat, Hello, Instrument, Welcome
from .signals import (
    Bracket,
    FanOut,
    LegReport,
    Report,
    Signal,
    SignalCancel,
    SignalClose,
    SignalReplace,
    Target,
)
from .terms import (
    AccountMode,
    Allocation,
    CorrectionKind,
    FanOutKind,
    KillLevel,
    LegState,
    OrderType,
    Protection,
    QueryKind,
    Role,
    Side,
    SignalState,
    TimeInForce,
)

__all__ = [
    "MAX_MESSAGE_BYTES",
    "PROTOCOL_VERSION",
    "Account",
    "AccountMode",
    "Acknowledge",
    "AdminResult",
    "Allocation",
    "Bracket",
    "Cancel",
    "Capabilities",
    "Correction",
    "CorrectionKind",
    "Envelope",
    "Executions",
    "FanOut",
    "FanOutKind",
    "Fill",
    "Heartbeat",
    "Hello",
    "Instrument",
    "Kill",
    "KillLevel",
    "LegReport",
    "LegState",
    "Message",
    "MessageError",
    "Order",
    "OrderIdParts",
    "OrderRole",
    "OrderType",
    "OrderUpdate",
    "Position",
    "Positions",
    "Protection",
    "Query",
    "QueryKind",
    "Reject",
    "RejectCode",
    "Replace",
    "Report",
    "Resume",
    "Role",
    "Side",
    "Signal",
    "SignalCancel",
    "SignalClose",
    "SignalReplace",
    "SignalState",
    "Snapshot",
    "SnapshotRequest",
    "StageChange",
    "Target",
    "TimeInForce",
    "Welcome",
    "WorkingOrder",
    "WorkingOrders",
    "client_order_id",
    "decode",
    "decode_json",
    "encode",
    "encode_json",
    "find_client_order_id",
    "magic_number",
    "signal_key",
]
