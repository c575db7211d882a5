"""Routes: one account on one platform, its positions, and the kill level that is in force there."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct, field

from ...messages import Account, Hello, Kill, KillLevel, WorkingOrder
from ...risk import MarketContext
from .contradictions import ContradictionRecord
from .orders import ZERO


def route_of(platform: str, account: str) -> str:
    """The key of one account on one platform."""
    return f"{platform}|{account}"


class PositionRecord(Struct, kw_only=True):
    """The net position of one symbol on one account."""

    net: Decimal = ZERO  # lots by the engine's books, signed: what the platform should hold
    external: Decimal = ZERO  # part of `net` that no leg of ours holds, signed lots
    mismatch: Decimal = ZERO  # platform's lots less `net`, as of the last complete snapshot; 0 = they agree
    mismatch_snapshots: int = 0  # complete snapshots in a row with this same `mismatch`
    blocked: bool = False  # a mismatch was adopted: no entries until the operator acknowledges it
    contract: str = ""  # contract that the platform last named for it; empty = none named
    reported: Decimal | None = None  # platform's lots as last reported, complete or not; None = never reported
    reported_ns: int = 0  # when that report came, UTC ns
    reported_net: Decimal = ZERO  # lots that we had booked of what that report can hold: `net` less it came since
    avg_price: Decimal | None = None  # AvgPx as last reported, quote units; None = not reported, or flat
    overfilled: Decimal = ZERO  # part of `external` by confirmed overfills that is to be closed, signed lots
    overfilled_ns: int = 0  # since when lots are overfilled, UTC ns; part of the ClOrdIDs that close them
    overfill_orders: int = 0  # closing orders sent for overfills; part of their ClOrdID
    overfill_retry_ns: int = 0  # no next closing order for them before this time, UTC ns
    over_closed_request: int = 0  # a closing order made it larger: none is sent before this snapshot; 0 = it did not
    session_open: bool = True  # its market trades, by our calendar, as of the newest valuation
    session_change_ns: int = 0  # when that changes next, UTC ns; 0 = not known


class RouteRecord(Struct, kw_only=True):
    """One account on one platform; its key in `EngineState.routes` is `route_of`."""

    platform: str  # platform's name
    account: str  # Account (1)
    hello: Hello  # as the adapter introduced itself last: capabilities, account mode, instruments
    up: bool = False  # the adapter's link is up
    ready: bool = False  # a complete snapshot has been reconciled since the link came up: entries may leave
    reconciled_before: bool = False  # a complete snapshot was ever reconciled; the first one is adopted as it is
    request_id: int = 0  # number of the last snapshot request, from 1
    request_sent_ns: int = 0  # when it was sent, UTC ns
    request_pending: bool = False  # it is not answered yet; one at a time
    snapshot_due_ns: int = 0  # when to request the next snapshot ahead of the regular one, UTC ns; 0 = none
    last_reconciled_ns: int = 0  # when the last complete snapshot was reconciled, UTC ns; 0 = never
    stamp_lead_ns: int = 0  # the most by which a TransactTime lay ahead of the engine's time of its booking, ns
    whole_request: bool = True  # the last request asked for the whole period
    whole_compared_ns: int = 0  # when a whole period was last reconciled, engine's time; 0 = never
    executions_as_of_ns: int = 0  # of that snapshot, by the clock that stamps executions, UTC ns; 0 = none was stated
    positions: dict[str, PositionRecord] = field(default_factory=dict)  # symbol -> its net position
    tickets: dict[str, dict[str, Decimal]] = field(default_factory=dict)  # symbol -> position ticket -> signed lots
    external_orders: list[WorkingOrder] = field(default_factory=list)  # working orders that are not ours
    live: dict[str, None] = field(default_factory=dict)  # ClOrdIDs of our orders that may still trade
    live_closing: dict[str, None] = field(default_factory=dict)  # those of `live` that close lots of others
    unreported_orders: dict[str, None] = field(default_factory=dict)  # ClOrdIDs of orders with `unreported_qty` > 0
    unknown_orders: dict[str, None] = field(default_factory=dict)  # those of `live` whose outcome is unknown
    active_signals: dict[str, None] = field(default_factory=dict)  # ids of signals that are not over, with a leg here
    executions: dict[str, None] = field(default_factory=dict)  # keys of executions here, in the order of booking
    ticket_owner: dict[str, tuple[str, int]] = field(default_factory=dict)  # position ticket -> (signal id, leg)
    funds: Account | None = None  # balance and equity as last reported; None = not yet
    severed: bool = False  # link cut by the kill level SEVER: refused until the operator resumes
    retired_ns: int = 0  # when the operator has retired it: nothing waits for it; 0 = in use, or linked again
    retired: dict[str, str] = field(default_factory=dict)  # contract that was rolled -> root that named it before
    holding_signals: dict[str, None] = field(default_factory=dict)  # signals with an open leg here, in order of opening
    waiting_closes: dict[str, None] = field(default_factory=dict)  # those of them whose closing order may not leave yet
    owed_requests: int = 0  # snapshot requests since `owes_since_ns`
    owes_since_ns: int = 0  # since when it owes a complete snapshot that was requested, UTC ns; 0 = it owes none
    overdue_since_ns: int = 0  # since when it has owed one for too long: no entries, UTC ns; 0 = it does not
    flatten_sent_ns: int = 0  # when the platform's own flatten was sent, UTC ns; 0 = a snapshot has shown what it did
    contradictions: dict[str, ContradictionRecord] = field(default_factory=dict)  # what stands, by what was said
    ended_contradictions: dict[str, ContradictionRecord] = field(default_factory=dict)  # what has ended, the same keys
    evicted_until_ns: int = 0  # TransactTime of the newest execution evicted from memory here, UTC ns; 0 = none
    finished_until: dict[int, int] = field(default_factory=dict)
    """Day (of the engine's time) on which signals have become rows -> TransactTime of the newest execution of theirs
    here, UTC ns. When it is `retention_ms` ago, it is evicted: `evicted_until_ns`."""
    finished_markets: dict[str, MarketContext] = field(default_factory=dict)
    """Symbol -> its market as the newest signal knew it that has become rows: what others trade is valued with it."""
    cleared_ns: int = 0  # when `account retire` closed its books: what was booked before is not listed here; 0 = never


class KillRecord(Struct, kw_only=True):
    """The kill level of one route, and whether the platform has shown that it holds."""

    level: KillLevel = KillLevel.NORMAL  # level in force here; that of all platforms is `EngineState.kill`
    own_only: bool = True  # True = only our orders and lots; False = everything on the account
    requested_ns: int = 0  # when this level was last commanded, UTC ns
    verified: bool = True  # a snapshot taken after the last step shows that the level holds
    verifying_request_id: int = 0  # first snapshot request whose answer may verify it; 0 = that answer has come
    attempts: int = 0  # closing orders sent here for lots that no leg holds; part of their ClOrdID
    fruitless: int = 0  # rounds of them in a row that have traded nothing: the pause between them grows
    close_retry_ns: int = 0  # no next round of them before this time, engine's time
    retry_ns: int = 0  # no next step before this time, UTC ns
    external_cancelled_ns: int = 0  # when orders that are not ours were last cancelled, UTC ns; 0 = never
    text: str = ""  # what is still lacking, or "verified", for people
    command: Kill | None = None  # the operator's command; None = set by the level of all platforms
    peer: str = ""  # peer that gets the answer when it is verified; empty = none
