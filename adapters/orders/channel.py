"""The order channel of one platform account: commands from the gateway, order events to it, checks for all platforms.

Gateway and platform may be away at any time, independently. Order events wait in `EventQueue` for the gateway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

from ...core.errors import ConfigError
from ...core.logs import Log
from ...core.messages import (
    Cancel,
    Flatten,
    Hello,
    Message,
    Order,
    Reject,
    RejectCode,
    Replace,
    Role,
    Snapshot,
    SnapshotRequest,
    Welcome,
)
from ...core.transport import LinkClient
from ...shm.counters import CountersPage
from ...shm.durations import NS_PER_S
from ..base import Adapter, Command, LinkLostError, OrderEvent, PlatformAccount
from ..waiting import Readable, wait_readable
from .event_queue import EventQueue, rolled_contracts
from .guard import make_reject, refuse_command
from .kill_watch import KillWatch
from .own_limits import LimitSettings, OwnLimits
from .placed import PlacedOrders

ORDER_COUNTERS: Final = (
    "order_link_up",
    "order_links",
    "commands_received",
    "commands_refused",
    "commands_over_limit",
    "orders_repeated",
    "order_events_sent",
    "order_events_waiting",
    "order_events_dropped",
    "snapshots_sent",
    "accounts_refused",
)
"""Counters of an adapter with orders."""

_SEED_NS: Final = 24 * 3600 * NS_PER_S
_RETRY_LINK_S: Final = 1.0
MakeLink = Callable[[Hello], LinkClient]


class OrderChannel:
    """The order side of one adapter. Used by the adapter's thread; `AdapterSession` drives it.

    `_account` is set while the platform's session is up, `_link` while the gateway is connected, each for itself.

    Attributes:
        is_open: whether the platform's session is up and its account may be traded.
    """

    def __init__(
        self,
        adapter: Adapter,
        make_link: MakeLink,
        accounts: Sequence[str],
        run_folder: Path,
        counters: CountersPage,
        log: Log,
        *,
        limits: LimitSettings | None = None,
        may_link: Callable[[], bool] = lambda: True,
        utc_ns: Callable[[], int] = time.time_ns,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            adapter: must have `capabilities`; its `orders` is set to this channel.
            make_link: opens the link to the gateway; ConfigError = not possible now.
            accounts: the accounts that may be traded; empty = any (for simulated accounts).
            limits: the adapter's own; None = the shipped ones.
            may_link: whether the contracts are chosen; a link opened before would be restarted at once.
        """
        assert adapter.capabilities is not None, "an adapter without capabilities accepts no orders"
        adapter.orders = self
        self._adapter = adapter
        self._capabilities = adapter.capabilities
        self._make_link = make_link
        self._accounts = tuple(accounts)
        self._may_link = may_link
        self._log = log
        self._utc_ns = utc_ns
        self._monotonic_s = monotonic_s
        self._platform = adapter.feed.name
        self._kill_watch = KillWatch(run_folder, self._platform, log, monotonic_s)
        self._limits = OwnLimits(limits or LimitSettings(), self._platform, monotonic_s=monotonic_s)
        self._boot_id = uuid4().hex
        self._account: PlatformAccount | None = None
        self._last_account = ""
        self._link: LinkClient | None = None
        self._retry_link_s = 0.0
        self._link_trouble = ""
        self._events = EventQueue(counters, log)
        self._placed = PlacedOrders()
        self._last_publish = counters.counter("last_publish_utc_ns")
        self._counts = {name: counters.counter(name) for name in ORDER_COUNTERS}
        self._counts["order_link_up"].set(0)

    @property
    def is_open(self) -> bool:
        return self._account is not None

    # Called by the session.

    def platform_up(self) -> None:
        """The platform's session is open: announce its account to the gateway on a new link.

        Raises:
            LinkLostError: the platform names no account, or gave no snapshot of its orders.
        """
        account = self._adapter.account
        if account is None:
            raise LinkLostError("the platform has not named its account")
        if self._accounts and account.name not in self._accounts:
            self._counts["accounts_refused"].add()
            self._log.error(
                "orders are off: the platform's account is not allowed",
                account=account.name,
                allowed=list(self._accounts),
                cure="log in to an allowed account, or add this one to settings.accounts",
            )
            return
        if account.name != self._last_account:
            # The gateway refuses events of another account than the link's.
            self._events.drop()
            self._last_account = account.name
            self._limits.begin(account, self._adapter.capabilities or self._capabilities)
        self._load_placed_orders(account)
        # Some platforms know their capabilities only once logged in: they differ between hedging and netting accounts.
        self._capabilities = self._adapter.capabilities or self._capabilities
        self._account = account
        if self._link is not None:
            # Fills may have been missed while the platform was away. A new link makes the gateway reconcile with a
            # snapshot before it sends orders again.
            self._link.hello = self._hello(account)
            self._link.platform_up = True
            self._link.restart("the platform's session is new")

    def follow_account(self) -> None:
        """Announce the platform's instruments on a new link when they have changed since `platform_up` (a roll).

        Takes about 50 ns when nothing has changed. Raises LinkLostError as `platform_up` does.
        """
        before, after = self._account, self._adapter.account
        if before is after or before is None or after is None or before == after:
            return
        self._events.flush(self._link)
        if self._link is not None:
            # Answer the commands that came on the old link: they are not resent on the new one. The new account is set
            # first, so that an order for the former contract is refused.
            self._account = after
            lost = self._handle_arrived(self._link)
            if lost is not None:
                raise lost
        # What could not be flushed reaches the gateway after the roll, when the symbol stands for the new contract.
        self._events.rename_symbols(rolled_contracts(before, after))
        self.platform_up()

    def platform_down(self) -> None:
        """The platform's session has ended; the next heartbeat reports it to the gateway."""
        self._events.flush(self._link)
        self._account = None
        if self._link is not None:
            self._link.platform_up = False

    def turn(self) -> None:
        """Execute the commands that have arrived, send waiting events, keep the link. Never blocks on the gateway.

        Raises:
            LinkLostError: from the adapter.
        """
        if self._kill_watch.is_severed_now():
            self._drop_link("the kill file says sever")
        if (link := self._link or self._open_link()) is None:
            return
        link.last_data_ns = self._last_publish.value
        # Events of `poll` go out before new commands are executed, so that the gateway sees them in their order.
        self._events.flush(link)
        lost = self._handle_arrived(link)
        link.tick()
        self._counts["order_link_up"].set(int(link.is_up))
        if link.refusal is not None:
            self._drop_link(f"{link.refusal.code.value}: {link.refusal.text}")
        elif link.cut_reason and not link.is_up:
            self._log_trouble(link.cut_reason)
        self._events.flush(self._link)
        # Raised last: the session reacts by closing the platform, and the rejects above must have been sent by then.
        if lost is not None:
            raise lost

    def wait(self, timeout_s: float, sockets: Sequence[Readable] = ()) -> bool:
        """See `Adapter.wait`."""
        link = self._link
        if link is not None:
            timeout_s = min(timeout_s, link.wait_ms() / 1000)
        return wait_readable(timeout_s, sockets, None if link is None else link.socket)

    def close(self) -> None:
        """Send the waiting events as far as the link accepts them, then close the link."""
        self._events.flush(self._link)
        if self._link is not None:
            self._link.close()
        self._counts["order_link_up"].set(0)

    # Called by the adapter.

    def report(self, event: OrderEvent) -> None:
        """See `OrderDesk.report`."""
        route = (event.platform, event.account)
        account = self._account.name if self._account is not None else event.account
        if route != (self._platform, account):
            raise ValueError(f"order event of {route}, this session is ({self._platform!r}, {account!r})")
        self._placed.apply_event(event)
        self._limits.apply_event(event)
        self._events.add(event)

    # Inside.

    def _open_link(self) -> LinkClient | None:
        if self._account is None or self._monotonic_s() < self._retry_link_s:
            return None
        if not self._may_link():
            self._log_trouble("the gateway has not chosen the contracts in front yet")
            return None
        try:
            self._link = self._make_link(self._hello(self._account))
        except ConfigError as error:
            self._drop_link(str(error))
        return self._link

    def _drop_link(self, reason: str) -> None:
        """Close the link; `_open_link` opens a new one after a pause."""
        if self._link is not None:
            self._link.close()
            self._link = None
        self._counts["order_link_up"].set(0)
        self._retry_link_s = self._monotonic_s() + _RETRY_LINK_S
        self._log_trouble(reason)

    def _log_trouble(self, reason: str) -> None:
        if reason != self._link_trouble:
            self._link_trouble = reason
            self._log.warning("no link to the gateway", reason=reason)

    def _hello(self, account: PlatformAccount) -> Hello:
        return Hello(
            role=Role.ADAPTER,
            name=self._platform,
            boot_id=self._boot_id,
            platform=self._platform,
            account=account.name,
            account_mode=account.mode,
            account_currency=account.currency,
            capabilities=self._capabilities,
            instruments=account.instruments,
        )

    def _handle_arrived(self, link: LinkClient) -> LinkLostError | None:
        lost: LinkLostError | None = None
        for body in link.receive():
            try:
                self._handle(body, link.hello)
            except LinkLostError as error:
                # Go on: the commands behind it are rejected (link_down). Skipped, their orders would stay unknown.
                self.platform_down()
                lost = error
            self._events.flush(self._link)  # the events of one command as one message: the gateway commits once
        return lost

    def _handle(self, body: Message, hello: Hello) -> None:
        match body:
            case Welcome():
                self._counts["order_links"].add()
                self._link_trouble = ""
                self._log.info("linked to the gateway", stage=body.stage, kill_level=body.kill_level.name)
            case Order() | Cancel() | Replace() | Flatten():
                self._counts["commands_received"].add()
                self._execute(body, hello)
            case SnapshotRequest():
                self._send_snapshot(body)
            case Reject():
                self._log.error("the gateway refused a message", code=body.code.value, reason=body.text)

    def _execute(self, command: Command, hello: Hello) -> None:
        if isinstance(command, Order) and command.client_order_id in self._placed:
            # The same order a second time: repeat the last answer, never place it twice.
            self._counts["orders_repeated"].add()
            answer = self._placed.last_answer(command.client_order_id)
            if answer is not None:
                self.report(answer)
            return
        code, text = refuse_command(
            command, self._platform, self._account, self._capabilities, *self._kill_watch.level(), self._utc_ns()
        )
        if code is RejectCode.NONE:
            code, text = self._limits.refuse(command)
            self._counts["commands_over_limit"].add(int(code is not RejectCode.NONE))
        if code is not RejectCode.NONE:
            self._refuse(command, hello, code, text)
            return
        self._limits.add_sent(command)
        if isinstance(command, Order):
            # Recorded first: if `execute` fails half-way, the outcome is unknown and a repetition must not place it.
            self._placed.record(command.client_order_id)
        self._adapter.execute(command)

    def _refuse(self, command: Command, hello: Hello, code: RejectCode, text: str) -> None:
        self._counts["commands_refused"].add()
        self._log.warning("command refused", command=type(command).__name__.lower(), code=code.value, reason=text)
        # Platform and account of the link, not of the command: the gateway rejects events of any other account.
        self._events.add(make_reject(command, hello.platform, hello.account, code, text))

    def _send_snapshot(self, request: SnapshotRequest) -> None:
        if self._account is None or (request.platform, request.account) != (self._platform, self._account.name):
            return  # the platform is away, or it is another account: the gateway asks again
        snapshot = self._take_snapshot(request)
        # Events that the snapshot already contains must arrive before it, or they would be booked on top of it.
        self._events.flush(self._link)
        if self._link is not None and self._link.send(snapshot):
            self._counts["snapshots_sent"].add()

    def _load_placed_orders(self, account: PlatformAccount) -> None:
        """Record the orders that are at the platform already: those of a former process must not be placed again."""
        from_ns = max(self._utc_ns() - _SEED_NS, 0)
        of = {"platform": self._platform, "account": account.name}
        self._take_snapshot(SnapshotRequest(request_id=0, executions_from_ns=from_ns, **of))

    def _take_snapshot(self, request: SnapshotRequest) -> Snapshot:
        snapshot = self._adapter.snapshot(request)
        self._placed.apply_snapshot(snapshot)
        self._limits.apply_snapshot(snapshot)
        return snapshot
