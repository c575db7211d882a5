"""Events of the engine. Each is journaled before its effects leave; replaying them rebuilds the state."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from ..messages import (
    Account,
    AccountRetire,
    Acknowledge,
    Correction,
    Fill,
    Hello,
    Kill,
    OrderUpdate,
    Query,
    Reject,
    Resume,
    Signal,
    SignalCancel,
    SignalClose,
    SignalReplace,
    Snapshot,
    StageChange,
)
from ..risk import Limits, MarketContext
from .settings import EngineSettings


class Started(Struct, tag="started", frozen=True, kw_only=True):
    """The process has started, with these settings and limits. No route is ready before its first snapshot."""

    boot_id: str
    settings: EngineSettings
    limits: Limits
    wall_offset_ns: int = 0
    """Wall clock less the engine's time, ns: not 0 when the clock was set back while no gateway ran."""
    config_hash: str = ""
    """Of the effective configuration, for people: two starts with the same one have the same hash."""
    limits_hash: str = ""
    author: str = ""
    """User and computer under which the process was started."""


class ClockStepped(Struct, tag="clock_stepped", frozen=True, kw_only=True):
    """The wall clock was set by `step_ns` (negative: back). Deadlines go on; stamps follow the wall clock."""

    step_ns: int


class EntriesBarred(Struct, tag="entries_barred", frozen=True, kw_only=True):
    """The process around the engine lacks what entries need, such as a descriptor for the kill file; `reason` empty =
    no longer. No kill: nothing is to be resumed.
    """

    reason: str


class NexusLost(Struct, tag="nexus_lost", frozen=True, kw_only=True):
    """A NEXUS has been gone for `EngineSettings.cancel_on_disconnect_ms`."""

    peer: str


class LinkUp(Struct, tag="link_up", frozen=True, kw_only=True):
    """An adapter's hello (its `role` is adapter) was accepted. `key`: name of the key that the connection proved."""

    hello: Hello
    key: str = ""


class LinkDown(Struct, tag="link_down", frozen=True, kw_only=True):
    """The link to an adapter is down, or its platform is gone or unresponsive."""

    platform: str
    account: str
    reason: str = ""


class SignalArrived(Struct, tag="signal_arrived", frozen=True, kw_only=True):
    """NEXUS wants to trade. `markets`: one context per target platform, as read when the signal came in. `key`: name of
    the key that the peer's connection has proved. `enter_by_ns`: of the signal, or what stands for it, UTC ns; 0 = none
    (journals of former versions).
    """

    signal: Signal
    markets: tuple[MarketContext, ...]
    peer: str = ""
    key: str = ""
    enter_by_ns: int = 0


class NexusAsked(Struct, tag="nexus_asked", frozen=True, kw_only=True):
    """NEXUS changes a signal that it has sent. `markets`: for a replace or a close, the current markets of
    its legs. `key` as in `SignalArrived`.
    """

    request: SignalCancel | SignalReplace | SignalClose
    peer: str = ""
    markets: tuple[MarketContext, ...] = ()
    key: str = ""


class AdapterSaid(Struct, tag="adapter_said", frozen=True, kw_only=True):
    """A message of an adapter about its platform."""

    message: OrderUpdate | Fill | Correction | Reject | Snapshot | Account
    account: str = ""


class SnapshotChanges(Struct, tag="snapshot_changes", frozen=True, kw_only=True):
    """A platform's snapshot without what it repeats, as `Engine.condense` makes it of the whole one.

    `snapshot`: rows that say what is booked already are left out. `unlisted_executions`: keys of booked executions of
    its period that it does not list. `unlisted_orders`: ClOrdIDs of live orders that it does not list.
    `same_positions`, `same_external_orders`: it lists them as the last one did, and their rows are left out.
    """

    snapshot: Snapshot
    unlisted_executions: tuple[str, ...] = ()
    unlisted_orders: tuple[str, ...] = ()
    same_positions: bool = False
    same_external_orders: bool = False


class SnapshotWanted(Struct, tag="snapshot_wanted", frozen=True, kw_only=True):
    """A regular comparison outside of the engine has found what it cannot settle: the engine requests a snapshot."""

    platform: str
    account: str
    reason: str
    executions_from_ns: int = 0
    """Start of the executions that are in question, UTC ns; 0 = those of the whole period."""


class AdminAsked(Struct, tag="admin_asked", frozen=True, kw_only=True):
    """A command of the operator. `peer` gets the answer; `key` as in `SignalArrived`, while `by` is only a claim."""

    request: Kill | Resume | Acknowledge | AccountRetire | StageChange | Query
    peer: str = ""
    key: str = ""


class MarketMoved(Struct, tag="market_moved", frozen=True, kw_only=True):
    """Fresh rates and quotes for open legs, from time to time: results and residuals are valued with them."""

    markets: tuple[MarketContext, ...]


class RollSpread(Struct, frozen=True, kw_only=True):
    """Prices of one platform at the roll, in quote units; `spread` = new minus old, None when one was not known."""

    platform: str
    old_price: Decimal | None
    new_price: Decimal | None
    spread: Decimal | None


class ContractChosen(Struct, tag="contract_chosen", frozen=True, kw_only=True):
    """One decision for all platforms: `contract` is in front of `root` from now on. `old` is empty for the first one.

    `policy`: the fate of our legs on the old contract. `markets`: the new contract at each account, under its own name,
    and the old one under the root's, as of the decision. `left_behind`: platforms that were not ready, and why; the
    decision holds for them, too.
    """

    root: str
    contract: str
    old: str = ""
    policy: Literal["hold", "close", "roll"] = "hold"
    spreads: tuple[RollSpread, ...] = ()
    markets: tuple[MarketContext, ...] = ()
    left_behind: tuple[str, ...] = ()
    remark: str = ""


class ContractNews(Struct, tag="contract_news", frozen=True, kw_only=True):
    """News of a roll for the operator. `waits`: it is due and waits; False only in journals of 0.1 (volume)."""

    root: str
    text: str
    waits: bool = False


class SignalRecalled(Struct, tag="signal_recalled", frozen=True, kw_only=True):
    """A message names a signal that has become a row of the journal: it goes back into the state first.

    `layout`, `payload`: of its row, as `SignalFinished` has written it.
    """

    signal_id: str
    layout: int
    payload: bytes


class ClockTicked(Struct, tag="clock_ticked", frozen=True, kw_only=True):
    """A deadline (`Engine.next_due_ns`) has passed. Sent only then, so that an idle journal stays small."""


Event = (
    Started
    | ClockStepped
    | EntriesBarred
    | NexusLost
    | LinkUp
    | LinkDown
    | SignalArrived
    | NexusAsked
    | AdapterSaid
    | SnapshotChanges
    | SnapshotWanted
    | AdminAsked
    | MarketMoved
    | ContractChosen
    | ContractNews
    | SignalRecalled
    | ClockTicked
)


def describe_event(event: Event) -> str:
    """Name an event for people: its kind and the ids in it."""
    match event:
        case AdapterSaid(message=message):
            ids = [getattr(message, name, "") for name in ("client_order_id", "exec_id")]
            return " ".join([str(message.__struct_config__.tag), *filter(None, ids), f"of {message.platform}"])
        case SnapshotChanges(snapshot=snapshot):
            return f"snapshot of {snapshot.platform}"
        case SignalArrived(signal=signal):
            return f"signal {signal.signal_id}"
        case SignalRecalled(signal_id=signal_id):
            return f"recall of {signal_id}"
        case NexusAsked(request=request):
            return f"{request.__struct_config__.tag} {request.signal_id}"
        case AdminAsked(request=request):
            return str(request.__struct_config__.tag)
        case LinkUp(hello=hello):
            return f"link_up of {hello.platform}"
        case LinkDown(platform=platform):
            return f"link_down of {platform}"
        case _:
            return str(event.__struct_config__.tag)
