"""The order channel: what reaches a platform, what reaches the gateway, and what happens while either is away."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from nexus_gateway.adapters.base import Adapter, Command, LinkLostError, PlatformAccount
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.adapters.order_settings import split_settings
from nexus_gateway.adapters.orders import event_queue
from nexus_gateway.adapters.orders.channel import ORDER_COUNTERS, OrderChannel
from nexus_gateway.adapters.session import AdapterSession, SessionPolicy
from nexus_gateway.adapters.simulator.adapter import SimulatorAdapter
from nexus_gateway.adapters.waiting import wait_readable
from nexus_gateway.core import messages as m
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.kill_file import KillEntry, add_kill, kill_file_path, remove_kills
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.transport import MAX_ENVELOPES_PER_MESSAGE
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.tick import Platform

from tests.support.feeds import ScriptedAdapter, close_feed, make_feed, make_symbols
from tests.support.patience import patient

LOG = process_log("test")
ONE = Decimal(1)
EVERYTHING = m.Capabilities(order_types=tuple(m.OrderType), times_in_force=tuple(m.TimeInForce), replace=True)
ACCOUNT = PlatformAccount(
    name="A1",
    mode=m.AccountMode.NETTING,
    currency="USD",
    instruments=(m.Instrument(symbol="NQ", platform_symbol="NQ 12-26", contract="NQZ26"),),
)


class FakeLink:
    """A LinkClient without a socket: up or not as the test says."""

    def __init__(self, hello: m.Hello) -> None:
        self.hello = hello
        self.cut_reason = ""
        self.is_up = False
        self.platform_up = True
        self.last_data_ns = 0
        self.refusal: m.Welcome | None = None
        self.socket = None
        self.sent: list[m.Message] = []
        self.inbox: list[m.Message] = []
        self.together: list[int] = []
        self.restarts: list[m.Hello] = []
        self.closed = False

    def send(self, *bodies: m.Message) -> bool:
        if self.is_up:
            self.sent += bodies
            self.together.append(len(bodies))
        return self.is_up

    def receive(self) -> list[m.Message]:
        bodies, self.inbox = self.inbox, []
        return bodies

    def tick(self) -> None: ...

    def wait_ms(self) -> int:
        return 100

    def restart(self, reason: str) -> None:
        self.restarts.append(self.hello)

    def close(self) -> None:
        self.closed = True


class TradingAdapter(ScriptedAdapter):
    """Keeps what it was asked to do; `rows` is what its platform already has."""

    capabilities = EVERYTHING
    account = ACCOUNT

    def __init__(self, feed: TickFeed) -> None:
        super().__init__(feed, [])
        self.executed: list[Command] = []
        self.rows: tuple[m.WorkingOrder, ...] = ()
        self.lost = False

    def execute(self, command: Command) -> None:
        self.executed.append(command)
        if self.lost:
            raise LinkLostError("gone while sending")

    def snapshot(self, request: m.SnapshotRequest) -> m.Snapshot:
        of = {"platform": request.platform, "account": request.account}
        return m.Snapshot(
            request_id=request.request_id,
            positions=m.Positions(**of, rows=()),
            working_orders=m.WorkingOrders(**of, rows=self.rows),
            executions=m.Executions(**of, rows=()),
            **of,
        )


class Bench:
    """A channel with its adapter and a fake link; `now_s` is its clock."""

    def __init__(self, folder: Path, accounts: tuple[str, ...] = (), **options: Any) -> None:
        page = CountersPage.create(folder, "nt8", (*COUNTERS, *ORDER_COUNTERS))
        self.feed = TickFeed(folder, "nt8", Platform.NT8, page, capacity=64, board_rows=64)
        self.adapter = TradingAdapter(self.feed)
        self.links: list[FakeLink] = []
        self.now_s = 1000.0
        self.trouble: ConfigError | None = None
        self.contracts_chosen = True
        self.channel = OrderChannel(
            self.adapter,
            self._make_link,
            accounts,
            folder,
            page,
            LOG,
            may_link=lambda: self.contracts_chosen,
            utc_ns=lambda: int(self.now_s * 1e9),
            monotonic_s=lambda: self.now_s,
            **options,
        )

    def _make_link(self, hello: m.Hello) -> Any:
        if self.trouble is not None:
            raise self.trouble
        self.links.append(FakeLink(hello))
        return self.links[-1]

    @property
    def link(self) -> FakeLink:
        return self.links[-1]

    def go(self) -> None:
        self.channel.platform_up()
        self.channel.turn()
        self.link.is_up = True

    def hear(self, *bodies: m.Message) -> list[m.Message]:
        """Give the channel these; what it sent in answer."""
        before = len(self.link.sent)
        self.link.inbox += bodies
        self.channel.turn()
        return self.link.sent[before:]

    def say(self, event: m.Message) -> None:
        """The platform says something, and the turn in which it leaves is over."""
        self.channel.report(event)
        self.channel.turn()

    def count(self, name: str) -> int:
        return self.feed.counters.values()[name]


@pytest.fixture
def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    close_feed(bench.feed)


def order(signal: str = "s", role: m.OrderRole = m.OrderRole.ENTRY, **terms: Any) -> m.Order:
    values: dict[str, Any] = {
        "client_order_id": m.client_order_id(m.signal_key(signal), 0, role, 0),
        "platform": "nt8",
        "account": "A1",
        "symbol": "NQ",
        "contract": "NQZ26",
        "side": m.Side.BUY,
        "quantity": ONE,
        "order_type": m.OrderType.MARKET,
    }
    return m.Order(**(values | terms))


def update(of: m.Order, state: m.LegState = m.LegState.WORKING, **terms: Any) -> m.OrderUpdate:
    values: dict[str, Any] = {
        "client_order_id": of.client_order_id,
        "platform": of.platform,
        "account": of.account,
        "symbol": of.symbol,
        "side": of.side,
        "state": state,
        "quantity": of.quantity,
        "filled": Decimal(0),
    }
    return m.OrderUpdate(**(values | terms))


def cancel(of: m.Order) -> m.Cancel:
    return m.Cancel(client_order_id=of.client_order_id, platform=of.platform, account=of.account, symbol=of.symbol)


def replace(of: m.Order) -> m.Replace:
    return m.Replace(
        client_order_id=of.client_order_id,
        platform=of.platform,
        account=of.account,
        symbol=of.symbol,
        revision=3,
        quantity=ONE,
    )


def flatten(**terms: Any) -> m.Flatten:
    return m.Flatten(**({"request_id": 5, "platform": "nt8", "account": "A1"} | terms))


def test_no_link_before_the_platform_is_there(bench):
    bench.channel.turn()
    assert bench.links == []
    bench.go()
    assert bench.link.hello.account == "A1"
    assert bench.link.hello.capabilities == EVERYTHING
    assert bench.link.hello.instruments == ACCOUNT.instruments


def test_a_new_session_of_the_platform_is_a_new_link(bench):
    bench.go()
    bench.channel.platform_down()
    assert not bench.link.platform_up
    bench.adapter.account = msgspec.structs.replace(ACCOUNT, name="A2")
    bench.channel.platform_up()
    assert bench.link.platform_up
    (hello,) = bench.link.restarts
    assert hello.account == "A2"


def test_no_link_before_the_contracts_in_front_are_chosen(bench):
    bench.contracts_chosen = False
    bench.channel.platform_up()
    bench.channel.turn()
    assert bench.links == []
    bench.contracts_chosen = True
    bench.channel.turn()
    assert len(bench.links) == 1


def test_what_came_before_the_instruments_changed_is_carried_out_or_refused_not_lost(bench):
    bench.go()
    bench.link.is_up = True
    other, (nq,) = order("t", contract="NQH27"), ACCOUNT.instruments
    bench.link.inbox += [order(), other]
    bench.adapter.account = msgspec.structs.replace(
        ACCOUNT, instruments=(msgspec.structs.replace(nq, contract="NQH27"),)
    )
    bench.channel.follow_account()
    assert bench.adapter.executed == [other], "the order for the contract that is traded now"
    (refusal,) = bench.link.sent
    assert (refusal.code, refusal.client_order_id) == (m.RejectCode.IDENTITY_MISMATCH, order().client_order_id)
    assert [hello.instruments[0].contract for hello in bench.link.restarts] == ["NQH27"]


def test_an_account_that_is_not_allowed_never_trades(tmp_path):
    bench = Bench(tmp_path, accounts=("Sim101",))
    bench.channel.platform_up()
    bench.channel.turn()
    assert bench.links == []
    assert bench.count("accounts_refused") == 1
    bench.adapter.account = msgspec.structs.replace(ACCOUNT, name="Sim101")
    bench.go()
    assert bench.link.hello.account == "Sim101"
    close_feed(bench.feed)


def test_an_order_is_placed_once_and_answered_every_time(bench):
    bench.go()
    assert bench.hear(order()) == []
    assert bench.hear(order()) == [], "no answer is known yet: silence, and no second order"
    assert bench.adapter.executed == [order()]
    bench.say(update(order()))
    assert bench.hear(order()) == [update(order())]
    bench.say(update(order(), m.LegState.FILLED, filled=ONE))
    assert bench.hear(order()) == [update(order(), m.LegState.FILLED, filled=ONE)]
    assert bench.adapter.executed == [order()]
    assert bench.count("orders_repeated") == 3


def test_what_the_platform_says_in_one_breath_leaves_together_in_order_and_bounded(bench):
    bench.go()
    events = [update(order(f"s{number}")) for number in range(MAX_ENVELOPES_PER_MESSAGE + 3)]
    for event in events:
        bench.channel.report(event)
    assert bench.hear() == events
    assert bench.link.together[-2:] == [MAX_ENVELOPES_PER_MESSAGE, 3]


def test_what_was_said_before_the_platform_went_is_heard_before_that(bench):
    bench.go()
    bench.channel.report(update(order()))
    bench.channel.platform_down()
    assert bench.link.sent[-1] == update(order())


def test_a_refused_cancel_is_no_answer_to_its_order(bench):
    bench.go()
    bench.hear(order())
    bench.channel.report(update(order()))
    said_no = m.Reject(
        code=m.RejectCode.CANCEL_REJECTED,
        text="no",
        client_order_id=order().client_order_id,
        platform="nt8",
        account="A1",
    )
    bench.say(said_no)
    assert bench.hear(order()) == [update(order())]


def test_orders_of_a_predecessor_are_known_from_the_platform(bench):
    bench.adapter.rows = (
        m.WorkingOrder(
            client_order_id=f"{order().client_order_id} by hand",
            symbol="NQ",
            side=m.Side.BUY,
            state=m.LegState.WORKING,
            quantity=ONE,
            filled=Decimal(0),
        ),
    )
    bench.go()
    (answer,) = bench.hear(order())
    assert answer.state is m.LegState.WORKING
    assert bench.adapter.executed == []


def test_events_wait_for_the_gateway_in_order_and_come_before_the_snapshot(bench):
    bench.go()
    bench.link.is_up = False
    events = [update(order(f"s{number}")) for number in range(5)]
    for event in events:
        bench.channel.report(event)
    assert bench.count("order_events_waiting") == 5
    bench.link.is_up = True
    sent = bench.hear(m.SnapshotRequest(request_id=7, platform="nt8", account="A1"))
    assert sent[:5] == events
    assert isinstance(sent[5], m.Snapshot)
    assert sent[5].request_id == 7
    assert bench.count("order_events_waiting") == 0


def test_too_many_waiting_events_are_dropped_whole_and_counted(bench, monkeypatch):
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", 3)
    bench.go()
    bench.link.is_up = False
    for number in range(5):
        bench.channel.report(update(order(f"s{number}")))
    bench.link.is_up = True
    sent = bench.hear()
    # A part of them would look like the whole; the snapshot of the new link has it all.
    assert [event.client_order_id for event in sent] == [order("s4").client_order_id]
    assert bench.count("order_events_dropped") == 4


def test_events_of_an_account_do_not_reach_the_link_of_the_next(bench):
    bench.go()
    bench.link.is_up = False
    bench.channel.report(update(order()))
    bench.channel.platform_down()
    bench.adapter.account = msgspec.structs.replace(ACCOUNT, name="A2")
    bench.channel.platform_up()
    bench.link.is_up = True
    assert bench.hear() == []
    assert bench.count("order_events_dropped") == 1


def test_an_event_of_another_account_is_a_bug_that_shows(bench):
    bench.go()
    with pytest.raises(ValueError, match="A9"):
        bench.channel.report(update(order(account="A9")))


def test_while_the_platform_is_away_an_order_is_refused_and_what_exists_is_not_called_dead(bench):
    bench.go()
    bench.channel.platform_down()
    answers = bench.hear(order(), cancel(order()), replace(order()))
    assert [answer.code.value for answer in answers] == ["link_down", "cancel_rejected", "replace_rejected"]
    assert answers[2].replace_revision == 3
    assert bench.adapter.executed == []
    assert bench.hear(m.SnapshotRequest(request_id=1, platform="nt8", account="A1")) == []


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"account": "A2"}, "platform_unknown"),
        ({"not_after_ns": 999 * 10**9}, "too_late_to_send"),
        ({"symbol": "ES"}, "identity_mismatch"),
        ({"contract": "NQH27"}, "identity_mismatch"),
        ({"stop_loss": ONE}, "unsupported_bracket"),
        ({"oco_group": "g"}, "unsupported_bracket"),
        ({"reduce_only": True}, "unsupported_type"),
        ({"close_ticket": "T"}, "unsupported_type"),
    ],
)
def test_refusals(bench, terms, code):
    bench.go()
    (reject,) = bench.hear(order(**terms))
    assert reject.code.value == code
    assert reject.client_order_id == order().client_order_id
    assert bench.adapter.executed == []
    # Refused is not placed: the same order put right goes through.
    bench.hear(order())
    assert bench.adapter.executed == [order()]


def test_a_flatten_reaches_a_platform_that_has_its_own_at_every_kill_level(bench, tmp_path):
    bench.adapter.capabilities = msgspec.structs.replace(EVERYTHING, flatten=True)
    bench.go()
    late = flatten(not_after_ns=1001 * 10**9)
    assert bench.hear(flatten(), late) == []
    for level in (m.KillLevel.NO_NEW, m.KillLevel.CANCEL_ALL, m.KillLevel.SEVER):
        # Both arrive before the channel has looked at the kill file: at sever the link ends then.
        add_kill(kill_file_path(tmp_path), KillEntry(level=level, reason="r", by="b", at_ns=1))
        assert bench.hear(flatten()) == []
    assert bench.adapter.executed == [flatten(), late, flatten(), flatten(), flatten()]
    assert bench.count("commands_refused") == 0


@pytest.mark.parametrize(
    ("able", "terms", "code"),
    [
        (True, {"account": "A2"}, "platform_unknown"),
        (True, {"not_after_ns": 999 * 10**9}, "too_late_to_send"),
        (False, {}, "unsupported_type"),
        (False, {"not_after_ns": 999 * 10**9}, "unsupported_type"),
    ],
)
def test_a_flatten_is_refused_by_a_reject_that_names_no_order(bench, able, terms, code):
    bench.adapter.capabilities = msgspec.structs.replace(EVERYTHING, flatten=able)
    bench.go()
    (reject,) = bench.hear(flatten(**terms))
    assert (reject.code.value, reject.client_order_id) == (code, "")
    assert (reject.platform, reject.account) == ("nt8", "A1")
    assert bench.adapter.executed == []


def test_a_flatten_while_the_platform_is_away_is_refused(bench):
    bench.adapter.capabilities = msgspec.structs.replace(EVERYTHING, flatten=True)
    bench.go()
    bench.channel.platform_down()
    (reject,) = bench.hear(flatten())
    assert reject.code is m.RejectCode.LINK_DOWN


def test_the_kill_file_lets_reducing_orders_and_cancels_pass(bench, tmp_path):
    bench.go()
    path = kill_file_path(tmp_path)
    add_kill(path, KillEntry(level=m.KillLevel.NO_NEW, reason="r", by="b", at_ns=1))
    (reject,) = bench.hear(order())
    assert reject.code is m.RejectCode.KILL_SWITCH
    way_out = order(role=m.OrderRole.EXIT)
    assert bench.hear(way_out, cancel(order())) == []
    assert bench.adapter.executed == [way_out, cancel(order())]
    add_kill(path, KillEntry(level=m.KillLevel.SEVER, reason="r", by="b", at_ns=1))
    (reject,) = bench.hear(order("other", role=m.OrderRole.EXIT))
    assert reject.code is m.RejectCode.KILL_SWITCH


@pytest.mark.parametrize("before", [m.KillLevel.NORMAL, m.KillLevel.FLATTEN])
def test_entries_are_refused_while_the_kill_file_cannot_be_opened(bench, tmp_path, monkeypatch, before):
    bench.go()
    if before:
        add_kill(kill_file_path(tmp_path), KillEntry(level=before, reason="r", by="b", at_ns=1))
        bench.hear(cancel(order()))

    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(host, "read_regular", refuse)
    (reject,) = bench.hear(order("first"))
    assert reject.code is m.RejectCode.KILL_SWITCH
    assert reject.text == "the kill file cannot be opened: Too many open files; entries go on as soon as it can be"
    way_out = order("second", role=m.OrderRole.EXIT)
    assert bench.hear(way_out) == []
    monkeypatch.undo()
    assert [reject.code for reject in bench.hear(order("third"))] == ([m.RejectCode.KILL_SWITCH] if before else [])


def test_sever_ends_the_link_until_it_is_lifted(bench, tmp_path):
    bench.go()
    path = kill_file_path(tmp_path)
    add_kill(path, KillEntry(level=m.KillLevel.SEVER, platform="nt8", reason="r", by="b", at_ns=1))
    for _ in range(8):
        bench.now_s += 0.3
        bench.channel.turn()
    assert len(bench.links) == 1
    assert bench.link.closed
    remove_kills(path)
    bench.now_s += 1.1
    bench.channel.turn()
    assert len(bench.links) == 2


def test_a_refused_hello_is_said_again_later_with_the_token_of_then(bench):
    bench.go()
    bench.link.refusal = m.Welcome(
        accepted=False,
        gateway_boot_id="g",
        stage=0,
        kill_level=m.KillLevel.NORMAL,
        heartbeat_ms=1,
        code=m.RejectCode.NOT_ALLOWED,
        text="the token is wrong",
    )
    bench.channel.turn()
    assert bench.link.closed
    bench.channel.turn()
    assert len(bench.links) == 1
    bench.now_s += 1.1
    bench.trouble = ConfigError("no token file")
    bench.channel.turn()
    bench.trouble = None
    bench.now_s += 1.1
    bench.channel.turn()
    assert len(bench.links) == 2


def test_a_link_lost_while_executing_closes_the_session_and_says_nothing_of_the_order(bench, tmp_path):
    symbols = make_symbols(tmp_path, "NQ")
    session = AdapterSession(bench.adapter, symbols, SessionPolicy(), LOG, orders=bench.channel)
    session.step(0.0)
    session.step(0.0)
    bench.link.is_up = True
    bench.adapter.lost = True
    bench.link.inbox += [order(), order("behind it")]
    session.step(0.0)
    assert bench.adapter.calls[-1] == "close"
    assert not bench.channel.is_open
    assert not bench.link.platform_up
    (answer,) = bench.link.sent
    assert answer.client_order_id == order("behind it").client_order_id, "the first one's outcome is unknown: no answer"
    assert answer.code is m.RejectCode.LINK_DOWN
    session.close()


def test_shared_settings_are_split_from_the_adapters_own():
    shared, own = split_settings({"orders": "paper", "paper": {"scenario": "reject"}, "port": 9001}, "nt8")
    assert (shared.orders, shared.paper.scenario, own) == ("paper", "reject", {"port": 9001})
    for settings, text in (
        ({"orders": "platform"}, "accounts was empty"),
        ({"orders": "real"}, "orders was 'real'"),
        ({"paper": {"comission": "1"}}, "did you mean 'commission'"),
        ({"session": {"silence_s": "5"}}, "silence_s was '5'"),
    ):
        with pytest.raises(ConfigError, match=text):
            split_settings(settings, "nt8")
    assert SimulatorAdapter.DEFAULT_ORDERS == "paper"
    assert Adapter.DEFAULT_ORDERS == "none", "real orders, or any, are never a default of a real platform"


def test_an_adapter_for_market_data_alone_implements_four_methods():
    assert Adapter.__abstractmethods__ == {"connect", "subscribe", "poll", "close"}


def test_waiting_ends_with_a_command_a_socket_or_the_time(tmp_path):
    context = zmq.Context.instance()
    server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    server.bind("inproc://waiting")
    client.connect("inproc://waiting")
    left, right = socket.socketpair()
    try:
        client.send(b"hello")
        identity, _ = server.recv_multipart()
        assert not wait_readable(0.02, (right,), client)

        def answer_later() -> None:
            time.sleep(0.2)
            server.send_multipart((identity, b"command"))

        thread = threading.Thread(target=answer_later)
        thread.start()
        deadline = time.monotonic() + patient(30)
        while not wait_readable(30.0, (right,), client):
            # The descriptor of a ZeroMQ socket also wakes for its own bookkeeping.
            assert time.monotonic() < deadline
        thread.join()
        assert wait_readable(30.0, (right,), client), "what is there already ends the wait at once"
        assert client.recv() == b"command"
        left.send(b"x")
        assert wait_readable(30.0, (right,), client)
        assert not wait_readable(0.01, (), None)
    finally:
        left.close()
        right.close()
        client.close(0)
        server.close(0)


def test_an_adapter_waits_on_the_channel_that_it_was_given(tmp_path):
    feed = make_feed(tmp_path)
    adapter = ScriptedAdapter(feed, [])
    assert not adapter.wait(0.001)

    class Desk:
        def wait(self, timeout_s: float, sockets: object) -> bool:
            return True

        def report(self, event: object) -> None: ...

    adapter.orders = Desk()
    assert adapter.wait(30.0)
    close_feed(feed)
