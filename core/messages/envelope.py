"""The envelope of every message: protocol version, sender, sequence numbers. Pure functions of bytes.

A message of another protocol version is refused whatever its body is: a body that happens to decode may mean something
else there. Every fault is raised as `MessageError` with a code, never as another exception.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..bounds import PLAIN_TEXT, PLAIN_TEXT_WORDS
from ..errors import GatewayError
from .account import Account, AccountState, Executions, Positions, Snapshot, SnapshotRequest, WorkingOrders
from .admin import AccountRetire, Acknowledge, AdminResult, Kill, Query, Resume, StageChange
from .codes import RejectCode
from .decimals import encode_plain
from .fields import Name, Sequence, TimeNs
from .orders import Cancel, Correction, Fill, Flatten, Order, OrderUpdate, Reject, Replace
from .session import Heartbeat, Hello, Welcome
from .signals import Report, Signal, SignalCancel, SignalClose, SignalReplace

PROTOCOL_VERSION = 4
"""2: brackets by distance and by target, the contract in a leg's report.
3: decimals in plain notation, client order ids of 22 characters, contradictions, completeness by part."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""A full snapshot of `MAX_ROWS` orders and executions stays below this."""

_PLAIN_PATTERN = f"`str` matching regex {PLAIN_TEXT!r}"

Message = (
    Signal
    | SignalCancel
    | SignalReplace
    | SignalClose
    | Report
    | Order
    | Cancel
    | Replace
    | Flatten
    | OrderUpdate
    | Fill
    | Correction
    | Reject
    | Positions
    | WorkingOrders
    | Executions
    | Account
    | AccountState
    | SnapshotRequest
    | Snapshot
    | Hello
    | Welcome
    | Heartbeat
    | Kill
    | Resume
    | Acknowledge
    | AccountRetire
    | StageChange
    | Query
    | AdminResult
)


class MessageError(GatewayError):
    """A message was refused when it was decoded. `code` is the reason, the text names the field."""

    def __init__(self, code: RejectCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Envelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message with its sequence numbers.

    `seq` counts the sender's messages of this session from 1; 0 = outside any session. `last_seq_received`: number of
    the newest message that the sender has received, by which the peer detects a connection that swallows messages.
    `sent_ns`: UTC ns.
    """

    sender: Name
    seq: Sequence
    body: Message
    last_seq_received: Sequence = 0
    sent_ns: TimeNs = 0
    version: int = PROTOCOL_VERSION


class _Version(Struct):
    version: int


_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)
_json_decoder = msgspec.json.Decoder(Envelope)
_version_decoder = msgspec.msgpack.Decoder(_Version)
_json_version_decoder = msgspec.json.Decoder(_Version)


def encode(envelope: Envelope) -> bytes:
    """Encode for the wire, decimals in plain notation. Returns a new bytes object; safe from any process and thread."""
    return encode_plain(_encoder, envelope)


def encode_json(envelope: Envelope) -> bytes:
    """Encode for people and log files, as UTF-8 JSON on one line."""
    return encode_plain(_json_encoder, envelope)


def decode(data: bytes | bytearray | memoryview) -> Envelope:
    """Decode and validate one message from the wire.

    Raises: MessageError, code `too_large`, `wrong_version` or `malformed`; no bytes raise anything else.
    """
    return _decode(data, _decoder, _version_decoder)


def decode_json(data: bytes | str) -> Envelope:
    """Decode and validate one message written by `encode_json` or by a person.

    Raises: as `decode`.
    """
    return _decode(data.encode() if isinstance(data, str) else data, _json_decoder, _json_version_decoder)


def _decode(
    data: bytes | bytearray | memoryview,
    decoder: msgspec.msgpack.Decoder[Envelope] | msgspec.json.Decoder[Envelope],
    version_decoder: msgspec.msgpack.Decoder[_Version] | msgspec.json.Decoder[_Version],
) -> Envelope:
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(
            RejectCode.TOO_LARGE,
            f"a message has at most {MAX_MESSAGE_BYTES} bytes, was {len(data)}; send less at once",
        )
    try:
        envelope = decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        _refuse_other_version(data, version_decoder)
        text = str(error).replace(_PLAIN_PATTERN, PLAIN_TEXT_WORDS)
        raise MessageError(RejectCode.MALFORMED, f"message refused: {text}"[:500]) from error
    if envelope.version != PROTOCOL_VERSION:
        raise _wrong_version(envelope.version)
    return envelope


def _refuse_other_version(
    data: bytes | bytearray | memoryview,
    version_decoder: msgspec.msgpack.Decoder[_Version] | msgspec.json.Decoder[_Version],
) -> None:
    try:
        version = version_decoder.decode(data).version
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError):
        return
    if version != PROTOCOL_VERSION:
        raise _wrong_version(version)


def _wrong_version(version: int) -> MessageError:
    return MessageError(
        RejectCode.WRONG_VERSION,
        f"protocol version was {version}, this side speaks {PROTOCOL_VERSION}; update the older side",
    )
