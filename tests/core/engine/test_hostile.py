"""Nothing that a peer can send makes the engine raise, whatever the numbers, names and order of events."""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.risk import MarketContext

from tests.support.orders import T0, Desk
from tests.support.torture import examples

numbers = st.one_of(
    st.decimals("0.000000000001", "1000000", places=12),
    st.sampled_from([D(1), D("1E+5"), D("1E-12"), D(1_000_000), D("0.3")]),
)
prices = st.one_of(st.decimals("-1000000000", "1000000000", places=12), st.sampled_from([D(0), D(21000), D("1E+9")]))
odd = st.one_of(
    prices, st.sampled_from([D("NaN"), D("Infinity"), D("-Infinity"), D("sNaN"), D(0), D("1E-30"), D("1E+40")])
)
names = st.sampled_from(["a", "b", "zz"])
times = st.one_of(st.integers(0, 2**63 - 1), st.just(T0))


def contexts(platform: str):
    return st.builds(
        MarketContext,
        platform=st.just(platform),
        symbol=st.sampled_from(["NQ", "ES"]),
        tick_size=odd,
        lot_step=odd,
        point_value=odd,
        currency=st.sampled_from(["USD", "BRL"]),
        usd_rate=st.none() | odd,
        bid=st.none() | odd,
        ask=st.none() | odd,
        quote_ns=times,
        expiry_ns=times,
    )


@st.composite
def signals(draw):
    kind = draw(st.sampled_from(list(m.OrderType)))
    policy = draw(st.sampled_from([k for k in m.FanOutKind if k is not m.FanOutKind.QUORUM]))
    return m.Signal(
        signal_id=draw(st.sampled_from(["s1", "s2", "s3", "s4"])),
        symbol="NQ",
        side=draw(st.sampled_from(list(m.Side))),
        created_ns=T0,
        targets=(m.Target(platform="a", quantity=draw(st.none() | numbers)), m.Target(platform="b")),
        quantity=draw(numbers),
        allocation=draw(st.sampled_from(list(m.Allocation))),
        order_type=kind,
        limit_price=draw(prices) if "limit" in kind else None,
        stop_price=draw(prices) if "stop" in kind else None,
        bracket=m.Bracket(stop_loss=draw(prices)) if draw(st.booleans()) else None,
        policy=m.FanOut(kind=policy),
        reduce_only=draw(st.booleans()),
    )


@st.composite
def adapter_messages(draw, order_ids):
    common = {"platform": draw(names), "account": "acc", "symbol": draw(st.sampled_from(["NQ", "ES"]))}
    order_id = draw(st.sampled_from([*order_ids, "", "by hand", "NXG"]))
    kind = draw(st.sampled_from(["update", "fill", "reject", "correction"]))
    if kind == "update":
        return m.OrderUpdate(
            **common,
            client_order_id=order_id,
            side=draw(st.sampled_from(list(m.Side))),
            state=draw(st.sampled_from(list(m.LegState))),
            quantity=draw(numbers),
            filled=draw(numbers),
            replace_revision=draw(st.integers(0, 2)),
            limit_price=draw(st.none() | prices),
        )
    if kind == "fill":
        return m.Fill(
            **common,
            client_order_id=order_id,
            exec_id=draw(st.sampled_from(["1", "2", "3"])),
            side=draw(st.sampled_from(list(m.Side))),
            quantity=draw(numbers),
            price=draw(prices),
            ts_event_ns=draw(times),
            fee=draw(prices),
            fee_currency=draw(st.sampled_from(["", "USD", "BRL", "XYZ"])),
            position_ticket=draw(st.sampled_from(["", "T1"])),
        )
    if kind == "reject":
        return m.Reject(code=draw(st.sampled_from(list(m.RejectCode))), text="", client_order_id=order_id)
    correct = draw(st.booleans())
    return m.Correction(
        platform=draw(names),
        account="acc",
        exec_id=draw(st.sampled_from(["1", "2", "9"])),
        kind=m.CorrectionKind.CORRECT if correct else m.CorrectionKind.BUST,
        revision=draw(st.integers(1, 3)),
        quantity=draw(numbers) if correct else None,
        price=draw(prices) if correct else None,
    )


@examples(80, 5000)
@given(st.data())
def test_handle_never_raises(data):
    desk = Desk("a")
    desk.link_up("b", data.draw(st.sampled_from(list(m.AccountMode))), brackets=data.draw(st.booleans()))
    for _ in range(data.draw(st.integers(1, 14))):
        step = data.draw(st.sampled_from(["signal", "adapter", "adapter", "close", "replace", "wait", "snap", "kill"]))
        if step == "signal":
            markets = (data.draw(contexts("a")), data.draw(contexts("b")))
            desk.give(e.SignalArrived(signal=data.draw(signals()), markets=markets, peer="n"))
        elif step == "adapter":
            desk.give(e.AdapterSaid(message=data.draw(adapter_messages(list(desk.orders)))))
        elif step == "close":
            desk.ask(m.SignalClose(signal_id="s1"))
        elif step == "replace":
            desk.ask(m.SignalReplace(signal_id="s1", quantity=data.draw(numbers), limit_price=data.draw(prices)))
        elif step == "wait":
            desk.wait(data.draw(st.integers(0, 10_000)))
        elif step == "snap":
            desk.snapshot("a", positions=[("NQ", data.draw(prices).quantize(D(1)) % 1000)])
        else:
            desk.ask(m.Kill(request_id=1, level=data.draw(st.sampled_from(list(m.KillLevel))), reason="", by="x"))
    desk.engine.next_due_ns()
    assert desk.engine.load(desk.engine.save()).digest() == desk.engine.digest()
