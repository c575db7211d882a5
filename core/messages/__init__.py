"""All messages between NEXUS, the gateway and the adapters.

Typed structs (msgspec), MessagePack on the wire, JSON for people. A message is validated when it is decoded. No module
here opens a socket, reads a clock or keeps state; any process may import them.

    from nexus_gateway.core.messages import Signal, Envelope, decode, encode
"""

from __future__ import annotations

from .account import (
    Account as Account,
    AccountState as AccountState,
    Contradiction as Contradiction,
    Executions as Executions,
    Position as Position,
    PositionState as PositionState,
    Positions as Positions,
    Snapshot as Snapshot,
    SnapshotRequest as SnapshotRequest,
    WorkingOrder as WorkingOrder,
    WorkingOrders as WorkingOrders,
)
from .admin import (
    AccountRetire as AccountRetire,
    Acknowledge as Acknowledge,
    AdminResult as AdminResult,
    Kill as Kill,
    Query as Query,
    Resume as Resume,
    StageChange as StageChange,
)
from .codes import RejectCode as RejectCode
from .envelope import (
    MAX_MESSAGE_BYTES as MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION as PROTOCOL_VERSION,
    Envelope as Envelope,
    Message as Message,
    MessageError as MessageError,
    decode as decode,
    decode_json as decode_json,
    encode as encode,
    encode_json as encode_json,
)
from .order_id import (
    OrderIdParts as OrderIdParts,
    OrderRole as OrderRole,
    client_order_id as client_order_id,
    find_client_order_id as find_client_order_id,
    magic_number as magic_number,
    signal_key as signal_key,
)
from .orders import (
    Cancel as Cancel,
    Correction as Correction,
    Fill as Fill,
    Flatten as Flatten,
    Order as Order,
    OrderUpdate as OrderUpdate,
    Reject as Reject,
    Replace as Replace,
)
from .session import (
    Capabilities as Capabilities,
    Heartbeat as Heartbeat,
    Hello as Hello,
    Instrument as Instrument,
    Welcome as Welcome,
)
from .signals import (
    Bracket as Bracket,
    FanOut as FanOut,
    LegReport as LegReport,
    Report as Report,
    Signal as Signal,
    SignalCancel as SignalCancel,
    SignalClose as SignalClose,
    SignalReplace as SignalReplace,
    Target as Target,
)
from .terms import (
    AccountMode as AccountMode,
    Allocation as Allocation,
    ContradictionKind as ContradictionKind,
    CorrectionKind as CorrectionKind,
    FanOutKind as FanOutKind,
    KillLevel as KillLevel,
    LegState as LegState,
    OrderType as OrderType,
    Protection as Protection,
    QueryKind as QueryKind,
    Role as Role,
    Side as Side,
    SignalState as SignalState,
    StopPlace as StopPlace,
    TimeInForce as TimeInForce,
)
