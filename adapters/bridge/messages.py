"""Messages between a bridge and its adapter, ticks apart: JSON, typed and validated (bridges/PROTOCOL.md).

Orders, fills and snapshots are the product's own messages (`core/messages`), so nothing is translated on the way.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ...core.messages import (
    Account,
    AccountMode,
    Cancel,
    Capabilities,
    Correction,
    Fill,
    Flatten,
    Instrument,
    Order,
    OrderUpdate,
    Reject,
    Replace,
    Snapshot,
    SnapshotRequest,
)
from ...core.messages.decimals import encode_plain
from ...core.messages.fields import (
    AccountName,
    ClientOrderId,
    Count,
    Currency,
    Name,
    Platform,
    Sequence,
    Symbol,
    Text,
    TimeNs,
)
from .frames import FrameError

MAX_BUSY_MS: Final = 120_000
MAX_SYMBOLS: Final = 1_000

Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{32,128}\Z")]
Proof = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
SymbolId = Annotated[int, Meta(ge=1, le=65_535)]
Ms = Annotated[int, Meta(ge=10, le=600_000)]
ErrorCode = Literal["wrong_token", "wrong_version", "malformed", "replaced", "not_ready", "mute", "closing"]


class Challenge(Struct, tag="challenge", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bridge's first message on a connection."""

    nonce: Nonce
    platform: Platform
    bridge: Name
    bridge_version: Name
    boot_id: Name


class Login(Struct, tag="login", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter's answer: proof that it knows the token, and the heartbeat timing it wants."""

    nonce: Nonce
    proof: Proof
    platform: Platform
    heartbeat_ms: Ms
    mute_after_ms: Ms
    sent_ns: TimeNs


class BridgeAccount(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account that the platform is logged in to. `simulated`: the platform says that it is a demo account."""

    name: AccountName
    mode: AccountMode
    currency: Currency
    simulated: bool = False


class BridgeHello(Struct, tag="hello", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session is open. `login_sent_ns`, `login_received_ns`, `sent_ns`: for the clock offset."""

    proof: Proof
    platform_version: Name
    accounts: Annotated[tuple[BridgeAccount, ...], Meta(max_length=100)]
    capabilities: Capabilities
    data_up: bool
    orders_up: bool
    login_sent_ns: TimeNs
    login_received_ns: TimeNs
    sent_ns: TimeNs
    text: Text = ""
    details: Annotated[dict[str, Text], Meta(max_length=50)] = {}

    def choose_account(self, name: str | None) -> BridgeAccount | None:
        """Return the account of this name, without a name the only one; None when there is none to choose."""
        if not name and len(self.accounts) == 1:
            return self.accounts[0]
        return next((each for each in self.accounts if each.name == name), None)


class WantedSymbol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`after_ns`, `after_count`: newest `ts_event_ns` received, and how many ticks had it; 0 = start with new ticks."""

    symbol_id: SymbolId
    symbol: Symbol
    platform_symbol: Name
    after_ns: TimeNs = 0
    after_count: Count = 0


class Subscribe(Struct, tag="subscribe", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Subscribe to these symbols and no others."""

    symbols: Annotated[tuple[WantedSymbol, ...], Meta(max_length=MAX_SYMBOLS)]


class SubscribedSymbol(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`instrument` is None when `accepted` is False. `resumed`: ticks continue after `after_ns` without a gap."""

    symbol_id: SymbolId
    accepted: bool
    instrument: Instrument | None = None
    tradable: bool = False
    resumed: bool = False
    text: Text = ""

    def __post_init__(self) -> None:
        if self.accepted and self.instrument is None:
            raise ValueError("instrument was missing, an accepted symbol needs it")


class Subscribed(Struct, tag="subscribed", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers for some or all symbols of the subscribe message with number `subscribe_seq`."""

    subscribe_seq: Sequence
    symbols: Annotated[tuple[SubscribedSymbol, ...], Meta(max_length=MAX_SYMBOLS)]


class Status(Struct, tag="status", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of the platform's own links, to its market data and to its broker."""

    data_up: bool
    orders_up: bool
    text: Text = ""


class SymbolStatus(Struct, tag="symbol_status", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One symbol's data has stopped or come back. Its next tick makes it live again in any case."""

    symbol_id: SymbolId
    live: bool
    text: Text = ""


class BridgeHeartbeat(Struct, tag="heartbeat", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the bridge. All counts are of this session."""

    sent_ns: TimeNs
    last_seq_received: Sequence
    ticks_sent: Sequence
    ticks_dropped: Sequence = 0
    ticks_waiting: Sequence = 0
    busy_ms: Sequence = 0
    echo_sent_ns: TimeNs = 0
    echo_received_ns: TimeNs = 0


class AdapterHeartbeat(Struct, tag="heartbeat", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the adapter."""

    sent_ns: TimeNs
    last_seq_received: Sequence
    ticks_received: Sequence = 0


class Busy(Struct, tag="busy", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bridge will be silent for up to `for_ms`, because a call into the platform blocks it."""

    for_ms: Annotated[int, Meta(ge=0, le=MAX_BUSY_MS)]
    doing: Text = ""


class Place(Struct, tag="place", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Place an order. `stop_loss_id`, `take_profit_id`: client order ids of the stop and target made from it."""

    order: Order
    stop_loss_id: ClientOrderId = ""
    take_profit_id: ClientOrderId = ""


class Ack(Struct, tag="ack", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The single answer to a command: sent to the platform, or not (then a reject tells why)."""

    command_seq: Sequence
    handed_over: bool


class Notice(Struct, tag="notice", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For the adapter's log."""

    level: Literal["info", "warning", "error"]
    text: Text


class Error(Struct, tag="error", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Last message of either side before it closes the connection."""

    code: ErrorCode
    text: Text


FromBridge = (
    Challenge
    | BridgeHello
    | Subscribed
    | Status
    | SymbolStatus
    | BridgeHeartbeat
    | Busy
    | Ack
    | OrderUpdate
    | Fill
    | Correction
    | Reject
    | Account
    | Snapshot
    | Notice
    | Error
)
ToBridge = Login | Subscribe | AdapterHeartbeat | Place | Cancel | Replace | Flatten | SnapshotRequest | Error


class BridgeEnvelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the bridge; `seq` counts them from 1 on each connection."""

    seq: Sequence
    body: FromBridge


class AdapterEnvelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the adapter; `seq` counts them from 1 on each connection."""

    seq: Sequence
    body: ToBridge


_encoder = msgspec.json.Encoder()
_from_bridge = msgspec.json.Decoder(BridgeEnvelope)
_to_bridge = msgspec.json.Decoder(AdapterEnvelope)


def encode_message(envelope: BridgeEnvelope | AdapterEnvelope) -> bytes:
    """UTF-8 JSON, decimals in plain notation; the payload of one frame."""
    return encode_plain(_encoder, envelope)


def decode_from_bridge(payload: bytes) -> BridgeEnvelope:
    """Decode a bridge's message. Raises only FrameError, whose text names the faulty field."""
    try:
        return _from_bridge.decode(payload)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise FrameError(f"the bridge sent a message that is none: {error}"[:400]) from error


def decode_from_adapter(payload: bytes) -> AdapterEnvelope:
    """Decode an adapter's message, as `decode_from_bridge`; for tests and for bridges that import this package."""
    try:
        return _to_bridge.decode(payload)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as error:
        raise FrameError(f"the adapter sent a message that is none: {error}"[:400]) from error
