"""Hostile input on both ports of a real gateway: it counts, answers where it can, and goes on trading."""

from __future__ import annotations

import socket as plain
from collections.abc import Iterator

import msgspec
import psutil
import pytest
import zmq
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from nexus_gateway.core.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Envelope,
    Kill,
    KillLevel,
    Position,
    Query,
    QueryKind,
    Reject,
    RejectCode,
    Role,
    SignalState,
    decode,
    encode,
)

from tests.support.links import adapter_hello, nexus_hello, prove
from tests.support.ports import free_port
from tests.support.torture import examples
from tests.support.trading_floor import D, FakeNexus, FakePlatform, Floor, make_signal, open_floor

Trading = tuple[Floor, FakePlatform, FakeNexus]


@pytest.fixture(scope="module")
def trading() -> Iterator[Trading]:
    adapter_port, nexus_port = free_port(), free_port()
    with open_floor(("nt8", "fill"), adapter_port=adapter_port, nexus_port=nexus_port) as (floor, (platform,), nexus):
        yield floor, platform, nexus


@pytest.fixture(params=["adapters", "nexus", "adapters over tcp", "nexus over tcp"])
def endpoint(request: pytest.FixtureRequest, trading: Trading) -> str:
    floor = trading[0]
    orders = floor.config.orders
    return {
        "adapters": floor.adapter_endpoint,
        "nexus": floor.nexus_endpoint,
        "adapters over tcp": f"tcp://127.0.0.1:{orders.adapter_port}",
        "nexus over tcp": f"tcp://127.0.0.1:{orders.nexus_port}",
    }[request.param]


def intruder(floor: Floor, endpoint: str) -> zmq.Socket[bytes]:
    """A program that has got hold of NEXUS's key, and sends what it likes."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    prove(socket, floor.config.keys_path / "nexus")
    socket.connect(endpoint)
    return socket


def trades_still(floor: Floor, nexus: FakeNexus) -> None:
    floor.quote()
    signal = make_signal("nt8")
    nexus.client.send(signal)
    floor.until(lambda: (r := nexus.report(signal.signal_id)) is not None and r.state is SignalState.FILLED)
    assert nexus.client.counts["links"] == 1


@examples(40, 1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.lists(st.binary(max_size=400), min_size=1, max_size=3), min_size=1, max_size=20))
def test_garbage(trading: Trading, endpoint: str, messages: list[list[bytes]]) -> None:
    floor, _, _ = trading
    socket = intruder(floor, endpoint)
    try:
        for frames in messages:
            socket.send_multipart(frames)
        floor.until(lambda: socket.poll(0))
        assert isinstance(decode(socket.recv()).body, Reject)
    finally:
        socket.close(0)


_VALID = [
    encode(Envelope(sender="x", seq=1, body=adapter_hello())),
    encode(Envelope(sender="x", seq=1, body=nexus_hello("boss", Role.ADMIN))),
    encode(Envelope(sender="x", seq=1, body=make_signal("nt8"))),
    encode(Envelope(sender="x", seq=1, body=Kill(request_id=1, level=KillLevel.SEVER, reason="", by="x"))),
]


@examples(60, 1500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.sampled_from(_VALID), at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_and_unauthorised_messages(
    trading: Trading, endpoint: str, base: bytes, at: int, byte: int, cut: bool
) -> None:
    floor, _, _ = trading
    at %= len(base)
    socket = intruder(floor, endpoint)
    try:
        socket.send(base[:at] if cut else base[:at] + bytes([byte]) + base[at + 1 :])
        floor.until(lambda: socket.poll(0))
        body = decode(socket.recv()).body
        assert isinstance(body, Reject) or not body.accepted  # type: ignore[union-attr]  # a welcome that says no
    finally:
        socket.close(0)
    assert floor.counters()["kill_level"] == 0


def test_wrong_version_and_giant_messages_are_counted(trading: Trading, endpoint: str) -> None:
    floor, _, nexus = trading
    before = floor.counters()
    socket = intruder(floor, endpoint)
    try:
        socket.send(msgspec.msgpack.encode({"version": PROTOCOL_VERSION + 1, "hello": "from the future"}))
        socket.send(b"\x00" * (MAX_MESSAGE_BYTES + 1))
        link = "adapters" if "adapter" in endpoint or str(floor.config.orders.adapter_port) in endpoint else "nexus"
        for counter in ("wrong_versions", "giant_messages"):
            floor.until(lambda name=f"{link}_{counter}": floor.counters()[name] > before[name])
    finally:
        socket.close(0)
    trades_still(floor, nexus)


def test_a_crowd_of_connections(trading: Trading, endpoint: str) -> None:
    floor, _, nexus = trading
    assert floor.process is not None
    process = psutil.Process(floor.process.pid)
    files = process.num_fds()
    address: str | tuple[str, int]
    if endpoint.startswith("ipc"):
        family, address = plain.AF_UNIX, endpoint.removeprefix("ipc://")
    else:
        family, address = plain.AF_INET, ("127.0.0.1", int(endpoint.rsplit(":", 1)[1]))
    crowd = []
    try:
        for number in range(1_000):
            one = plain.socket(family)
            one.connect(address)
            if number % 2:
                one.sendall(b"GET / HTTP/1.1\r\n\r\n")
            crowd.append(one)
            floor.turn()
        trades_still(floor, nexus)
    finally:
        for one in crowd:
            one.close()
    floor.until(lambda: process.num_fds() < files + 50)


def test_a_peer_that_does_not_read_is_cut_and_trading_goes_on() -> None:
    with open_floor(("nt8", "fill"), queue_messages=50) as (floor, (platform,), nexus):
        slow = floor.nexus("slow")
        floor.until(lambda: slow.client.is_up)
        floor.people.remove(slow)
        floor.quote()
        signals = [make_signal("nt8") for _ in range(40)]  # fewer than the 50 lots that the limits allow
        for signal in signals:
            assert slow.client.send(signal)
        floor.until(lambda: "nexus|slow" in floor.log() and floor.counters()["nexus_links_cut"] >= 1)
        trades_still(floor, nexus)
        slow.client.close()
        assert len(platform.placed) <= len(signals) + 1


def test_an_adapter_may_speak_for_its_own_account_only() -> None:
    with open_floor(("nt8", "fill"), ("sierra", "fill")) as (floor, (nt8, sierra), nexus):
        lie = msgspec.structs.replace(
            sierra.snapshot(1), positions=msgspec.structs.replace(sierra.snapshot(1).positions,
                                                                  rows=(Position(symbol="NQ", quantity=D(99)),))
        )  # fmt: skip
        nt8.client.send(lie)
        nt8.client.send(make_signal("nt8"))
        floor.until(lambda: floor.counters()["messages_of_wrong_route"] == 1)
        floor.until(lambda: floor.counters()["messages_not_allowed"] == 1)
        assert nexus.client.send(Kill(request_id=1, level=KillLevel.SEVER, reason="", by="nexus"))
        floor.until(lambda: any(isinstance(b, Reject) and b.code is RejectCode.NOT_ALLOWED for b in nexus.heard))
        assert floor.counters()["kill_level"] == 0
        assert nexus.client.send(Query(request_id=3, what=QueryKind.POSITIONS))
        trades_still(floor, nexus)


def test_a_non_finite_price_is_refused_by_name() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), nexus):
        link = nexus.client._link
        link.liveness.last_seq_sent += 1
        signal = msgspec.to_builtins(make_signal("nt8", signal_id="poison"))
        signal["bracket"] = {"stop_loss": "NaN"}
        frame = {
            "sender": "nexus",
            "seq": link.liveness.last_seq_sent,
            "last_seq_received": link.liveness.last_seq_received,
            "version": PROTOCOL_VERSION,
        }
        assert nexus.client.socket is not None
        nexus.client.socket.send(msgspec.msgpack.encode(frame | {"body": signal}))
        floor.until(lambda: any(isinstance(b, Reject) and b.signal_id == "poison" for b in nexus.heard))
        trades_still(floor, nexus)
        assert len(platform.placed) == 1
