"""From a link's message to the engine's event: whose word it is, and the market that belongs to it."""

from __future__ import annotations

from decimal import Decimal as D
from types import SimpleNamespace

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.gateway.inbox import Inbox
from nexus_gateway.core.transport import PeerMessage

from tests.support.links import adapter_hello
from tests.support.orders import T0, market

HELLO = adapter_hello("nt8")
ROUTE = f"{HELLO.platform}|{HELLO.account}"
NEXUS = m.Hello(role=m.Role.NEXUS, name="n", boot_id="b")


def make_inbox() -> Inbox:
    """One platform is linked, and the one signal that is known has a leg there and one on a platform that is away."""
    markets = SimpleNamespace(
        context=lambda hello, symbol, now_ns: market(hello.platform, now_ns, account=hello.account, symbol=symbol),
        stand_ins=SimpleNamespace(inward=lambda body: body),
    )
    legs = {"s1": [(ROUTE, "NQ"), ("away|x", "NQ")]}
    inbox = Inbox(markets, lambda: {}, lambda signal_id: legs.get(signal_id, []))
    inbox.translate(PeerMessage(ROUTE, HELLO, m.Heartbeat(last_seq_sent=1, last_seq_received=1)), T0)
    return inbox


def test_a_reject_counts_for_its_senders_account_only():
    event = make_inbox().translate(
        PeerMessage(ROUTE, HELLO, m.Reject(code=m.RejectCode.PLATFORM_REJECTED, text="", client_order_id="x")), T0
    )
    assert isinstance(event, e.AdapterSaid)
    assert (event.message.platform, event.message.account) == (HELLO.platform, HELLO.account)


@pytest.mark.parametrize(
    ("fields", "deadline_ns"),
    [
        ({}, T0 + 1_000_000_000),
        ({"order_type": m.OrderType.LIMIT, "limit_price": D(21_000)}, T0 + 10_000_000_000),
        ({"enter_by_ns": T0 + 5}, T0 + 5),
        ({"reduce_only": True}, 0),
        ({"reduce_only": True, "enter_by_ns": T0 + 5}, 0),
    ],
)
def test_a_signal_comes_with_the_time_by_which_it_must_have_entered_and_the_key_of_its_sender(fields, deadline_ns):
    signal = m.Signal(
        signal_id="s", symbol="NQ", side=m.Side.BUY, created_ns=T0, quantity=D(1),
        targets=(m.Target(platform="nt8"),), **fields,
    )  # fmt: skip
    event = make_inbox().translate(PeerMessage("nexus|n", NEXUS, signal, "nexus.laptop"), T0)
    assert isinstance(event, e.SignalArrived)
    assert (event.enter_by_ns, event.key) == (deadline_ns, "nexus.laptop")


def test_a_replace_comes_with_the_markets_of_its_legs_and_a_cancel_without():
    inbox = make_inbox()
    for signal_id, known in (("s1", [HELLO.platform]), ("unknown", [])):
        replace = m.SignalReplace(signal_id=signal_id, limit_price=D(1))
        event = inbox.translate(PeerMessage("nexus|n", NEXUS, replace), T0)
        assert isinstance(event, e.NexusAsked)
        assert [each.platform for each in event.markets] == known
    cancel = inbox.translate(PeerMessage("nexus|n", NEXUS, m.SignalCancel(signal_id="s1")), T0)
    assert isinstance(cancel, e.NexusAsked)
    assert cancel.markets == ()
