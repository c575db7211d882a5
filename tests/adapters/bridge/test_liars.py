"""A bridge that lies harms nothing but its own session; and what the reference bridge does with adapters that do."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from contextlib import closing

import pytest
from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.adapters.session import AdapterSession, SessionPolicy
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import TickFlag

from tests.reference_bridge import vectors, wire
from tests.support.bridges import NQ, TOKEN, Bench, Liar, reference_bridge, tick_frame
from tests.support.patience import patient


def bad(name: str) -> bytes:
    return next(each.data for each in vectors.make_vectors() if each.name == f"bad_{name}")


def hold(connection: socket.socket) -> None:
    """Stay until the other side has gone."""
    while connection.recv(1 << 16):
        pass


def send(data: bytes):
    def deed(liar: Liar, connection: socket.socket) -> None:
        connection.sendall(data)
        hold(connection)

    return deed


def say(kind: str, **changes: object):
    def deed(liar: Liar, connection: socket.socket) -> None:
        liar.say(connection, kind, **changes)
        hold(connection)

    return deed


def stay_silent(liar: Liar, connection: socket.socket) -> None:
    hold(connection)


def cut_in_half(liar: Liar, connection: socket.socket) -> None:
    connection.sendall(tick_frame(1.0, 2.0, 3.0)[:100])
    connection.shutdown(socket.SHUT_RDWR)


def skip_a_number(liar: Liar, connection: socket.socket) -> None:
    liar.seq += 1
    liar.say(connection, "ack", command_seq=1)
    hold(connection)


def miscount(liar: Liar, connection: socket.socket) -> None:
    connection.sendall(tick_frame(18000.0))
    liar.say(connection, "heartbeat", ticks_sent=2, ticks_dropped=0, last_seq_received=0)
    hold(connection)


def flood_without_reading(liar: Liar, connection: socket.socket) -> None:
    frame = tick_frame(*[18000.0] * 256)
    sent = 0
    while True:
        connection.sendall(frame)
        sent += 256
        if sent % (256 * 200) == 0:
            liar.say(connection, "heartbeat", ticks_sent=sent, ticks_dropped=0, last_seq_received=0)


LIES = {
    **{name: (send(bad(name)), ".") for name in ("version", "flags", "type", "empty", "too_long", "tick_length")},
    **{name: (send(bad(name)), ".") for name in ("no_ticks", "too_many_ticks")},
    "garbage": (send(random.Random(1).randbytes(5000)), "."),
    "zeros": (send(bytes(100_000)), "version was 0"),
    "no json": (send(wire.HEADER.pack(3, 2, 0, wire.VERSION) + b"{{{"), "none"),
    "silence": (stay_silent, "nothing heard|not taken in"),  # both are true of it; which is told first is chance
    "half a frame": (cut_in_half, "closed the connection"),
    "a gap": (skip_a_number, "lost or repeated"),
    "a wrong count": (miscount, "has sent 2 ticks, 1 have come"),
    "does not listen": (flood_without_reading, "does not listen"),
    "another platform's order": (say("fill", platform="mt5"), "must be of 'nt8'"),
    "another account's snapshot": (say("snapshot", account="Live"), "asked for was"),
    "ack of nothing": (say("ack", command_seq=999), "ack for command"),
    "a second hello": (say("challenge"), "second time"),
    "its farewell": (say("error", code="closing", text="bye"), "closing: bye"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_session_and_nothing_else(tmp_path, lie):
    deed, text = LIES[lie]
    with closing(Liar(deed)) as liar, closing(Bench(tmp_path, liar.port)) as bench:
        assert re.search(text, bench.meet())
        assert bench.desk.events == []
        ticks = bench.ticks()
        assert all(tick["symbol"] == NQ.id and tick["bid"] == 18000.0 for tick in ticks)
        # The next session gets as far as the first.
        assert re.search(text, bench.meet())
        assert bench.count("decode_errors") <= 2


GREETING_LIES = {
    "nothing": (stay_silent, "gave no hello within"),
    "closes": (lambda liar, connection: connection.close(), "."),
    "ticks at once": (send(tick_frame(1.0)), "ticks came before hello"),
    "a long message at once": (
        send(wire.HEADER.pack(70_000, 2, 0, wire.VERSION) + bytes(70_000)),
        "must be 1 to 65536",
    ),
    "an order at once": (say("fill"), "fill came before challenge"),
    "another platform": (say("challenge", platform="mt5"), "must be for 'nt8'"),
    "http": (send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), "version was"),
    "not ready": (say("error", code="not_ready", text="no account yet"), "not_ready: no account yet"),
}


@pytest.mark.parametrize("lie", GREETING_LIES)
def test_a_lie_in_the_greeting(tmp_path, lie):
    deed, text = GREETING_LIES[lie]
    liar = Liar(deed, greet=False)
    bench = Bench(tmp_path, liar.port, answer_timeout_s=0.3)
    with pytest.raises(LinkLostError) as caught:
        bench.adapter.connect()
    if text != ".":
        assert text in str(caught.value)
    bench.close()
    liar.close()


def test_an_impostor_who_does_not_know_the_token(tmp_path):
    def pretend(liar: Liar, connection: socket.socket) -> None:
        liar.say(connection, "challenge")
        liar.hear(connection, "login")
        liar.say(connection, "hello", proof="ab" * 32)
        hold(connection)

    liar = Liar(pretend, greet=False)
    bench = Bench(tmp_path, liar.port)
    with pytest.raises(LinkLostError, match="does not know the token"):
        bench.adapter.connect()
    assert bench.adapter.account is None
    bench.close()
    liar.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"platform_symbol": "NQ 03-27"}, "asked for was 'NQ 12-26', the bridge gives 'NQ 03-27'"),
        ({"lot_step": "1E-999999999"}, "lot_step of NQ must have at most 12 decimal places, was 1E-999999999"),
        ({"tick_size": "0"}, "tick_size of NQ must be above zero, was 0"),
    ],
)
def test_a_bridge_that_gives_something_else_than_asked_for(tmp_path, change, reason):
    def mislead(liar: Liar, connection: socket.socket) -> None:
        liar.say(connection, "challenge")
        _, login = liar.hear(connection, "login")
        liar.say(connection, "hello", proof=wire.prove(TOKEN, "bridge", login["nonce"], vectors.BRIDGE_NONCE))
        number, _ = liar.hear(connection, "subscribe")
        other = {**vectors.INSTRUMENT, **change}
        answer = {"symbol_id": 3, "accepted": True, "instrument": other, "tradable": True}
        liar.say(connection, "subscribed", subscribe_seq=number, symbols=[answer])
        connection.sendall(tick_frame(18000.0))
        hold(connection)

    liar = Liar(mislead, greet=False)
    bench = Bench(tmp_path, liar.port)
    bench.adapter.connect()
    with pytest.raises(LinkLostError, match=reason):
        bench.adapter.subscribe([NQ])
    assert not len(bench.ticks()), "the price of another contract, or of an impossible one"
    bench.close()
    liar.close()


@pytest.mark.parametrize("step", [1, 3, 63])
def test_a_few_bytes_at_a_time(tmp_path, step):
    def dribble(liar: Liar, connection: socket.socket) -> None:
        data = b"".join(tick_frame(float(18000 + number)) for number in range(20))
        for start in range(0, len(data), step):
            connection.sendall(data[start : start + step])
            if start % 64 < step:
                time.sleep(0.001)
        liar.say(connection, "fill", exec_id="last", account="Sim101")
        hold(connection)

    liar = Liar(dribble)
    bench = Bench(tmp_path, liar.port)
    bench.open()
    bench.until(lambda: bench.desk.events)
    assert bench.ticks()["bid"].tolist() == [18000.0 + number for number in range(20)]
    bench.close()
    liar.close()


def test_a_busy_bridge_keeps_its_session_and_its_quotes_are_stale(tmp_path):
    """A call that was announced may take long; what was quoted before it is old all the same."""
    returned = threading.Event()

    def work(liar: Liar, connection: socket.socket) -> None:
        connection.sendall(tick_frame(18000.0))
        liar.say(connection, "busy", for_ms=60_000)
        returned.wait(patient(20))
        connection.sendall(tick_frame(18001.0))
        hold(connection)

    with closing(Liar(work)) as liar, closing(Bench(tmp_path, liar.port)) as bench:
        bench.open()
        seen: list[tuple[float, int]] = []

        def last() -> tuple[float, int] | None:
            seen.extend((float(tick["bid"]), int(tick["flags"])) for tick in bench.ticks())
            return seen[-1] if seen else None

        bench.until(lambda: last() == (18000.0, TickFlag.STALE))
        bench.listen(0.2)
        assert last() == (18000.0, TickFlag.STALE)
        assert len(seen) == 2, "marked once"
        returned.set()
        bench.until(lambda: last() == (18001.0, TickFlag.BID | TickFlag.ASK))
        assert liar.connections == 1


def test_a_symbol_whose_answer_is_late_is_traded_from_then_on(tmp_path):
    """History that was slow to come costs no session, and no reconnect."""
    go_on = threading.Event()

    def dawdle(liar: Liar, connection: socket.socket) -> None:
        liar.say(connection, "challenge")
        _, login = liar.hear(connection, "login")
        liar.say(connection, "hello", proof=wire.prove(TOKEN, "bridge", login["nonce"], vectors.BRIDGE_NONCE))
        number, subscribe = liar.hear(connection, "subscribe")
        for each in subscribe["symbols"]:
            instrument = {**vectors.INSTRUMENT, "symbol": each["symbol"], "platform_symbol": each["platform_symbol"]}
            answer = {"symbol_id": each["symbol_id"], "accepted": True, "instrument": instrument, "tradable": True}
            liar.say(connection, "subscribed", subscribe_seq=number, symbols=[answer])
            if each["symbol"] == "NQ":
                liar.answer_snapshot(connection)
                go_on.wait(patient(20))
        connection.sendall(tick_frame(5000.0, symbol_id=4))
        hold(connection)

    liar = Liar(dawdle, greet=False)
    names = {"NQ": "NQ 12-26", "ES": "ES 12-26"}
    with closing(liar), closing(Bench(tmp_path, liar.port, names=names, answer_timeout_s=0.3)) as bench:
        bench.open(NQ, Symbol(4, "ES", "ESZ26", 0.25))
        assert [each.symbol for each in bench.adapter.account.instruments] == ["NQ"]
        assert bench.count("bridge_symbols_refused") == 1
        go_on.set()
        bench.until(lambda: len(bench.ticks()))
        assert [each.symbol for each in bench.adapter.account.instruments] == ["NQ", "ES"]
        assert bench.count("bridge_symbols_refused") == 0


def test_bad_ticks_are_counted_and_their_neighbours_live(tmp_path):
    def mix(liar: Liar, connection: socket.socket) -> None:
        connection.sendall(tick_frame(1.0, float("inf"), 2.0) + tick_frame(9.0, symbol_id=9) + tick_frame(3.0))
        hold(connection)

    liar = Liar(mix)
    bench = Bench(tmp_path, liar.port)
    bench.open()
    bench.until(lambda: bench.count("bridge_ticks_refused") == 2)
    assert bench.ticks()["bid"].tolist() == [1.0, 2.0, 3.0]
    bench.close()
    liar.close()


@pytest.mark.parametrize("seed", range(8))
def test_fuzz_the_whole_adapter(tmp_path, seed):
    """Random frames, good and bad, in random pieces, again and again: only LinkLostError ever comes of it."""

    def rave(liar: Liar, connection: socket.socket) -> None:
        chance = random.Random(seed * 1000 + liar.connections)
        messages = [each for each in vectors.make_vectors() if each.sender == "bridge"]
        for _ in range(200):
            data = bytearray(chance.choice((tick_frame(18000.0, 18001.0), chance.choice(messages).data)))
            if chance.random() < 0.5:
                data[chance.randrange(len(data))] = chance.randrange(256)
            if chance.random() < 0.1:
                del data[chance.randrange(len(data)) :]
            connection.sendall(data)

    liar = Liar(rave)
    bench = Bench(tmp_path, liar.port)
    for _ in range(5):
        assert bench.meet()
    assert all(tick["symbol"] == NQ.id for tick in bench.ticks())
    bench.close()
    liar.close()


def test_after_a_liar_the_good_bridge_is_found_again(tmp_path):
    """Through the base's own session: stale marks, back-off, one more try."""
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        policy = SessionPolicy(first_backoff_s=0.01, longest_backoff_s=0.05)
        session = AdapterSession(bench.adapter, [NQ], policy, process_log("nt8"))

        def step_until(condition):
            deadline = time.monotonic() + patient(20)
            while not condition():
                assert time.monotonic() < deadline
                session.step(0.005)

        step_until(lambda: bench.count("link_up"))
        platform.quote("NQ", 18000, 18000.25, 1, 1)
        step_until(lambda: bench.count("ticks_published"))
        for number in range(1, 4):
            server.cut()
            step_until(lambda number=number: bench.count("links_lost") == number)
            step_until(lambda number=number: bench.count("connects") == number + 1)
        flags = bench.ticks()["flags"].tolist()
        assert [flag for flag in flags if flag & TickFlag.STALE], "nobody may take the old quote for live"
        session.close()
        bench.close()


# The other way round: adapters that lie to the reference bridge.


def greet(server) -> tuple[socket.socket, str]:
    connection = socket.create_connection(("127.0.0.1", server.port))
    frames = wire.FrameReader()
    while not (found := frames.feed(connection.recv(1 << 16))):
        pass
    return connection, wire.unpack_message(found[0][1], 1)["nonce"]


def test_somebody_without_the_token_never_disturbs_the_session(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        strangers = []
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(4000), wire.pack_message(1, {"type": "order"})):
            connection, _ = greet(server)
            connection.sendall(data)
            strangers.append(connection)
        connection, nonce = greet(server)
        wrong = {"type": "login", "nonce": nonce, "proof": "00" * 32, "platform": "nt8"}
        connection.sendall(wire.pack_message(1, {**wrong, "heartbeat_ms": 50, "mute_after_ms": 400, "sent_ns": 1}))
        strangers.append(connection)
        platform.quote("NQ", 18000, 18000.25, 1, 1)
        bench.until(lambda: len(bench.ticks()))
        bench.listen(0.3)
        assert bench.snapshot().complete
        for connection in strangers:
            connection.close()
        bench.close()


def test_order_events_overtake_ticks_and_quotes_are_conflated_for_a_slow_reader(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port, timing={"heartbeat_ms": 1000, "mute_after_ms": 20_000})
        bench.open()
        for number in range(60_000):  # nobody reads meanwhile
            platform.quote("NQ", 10_000 + number, 90_000, 1, 1)
        platform.set_status(data_up=True, orders_up=True)
        platform.server.send({**vectors.FILL, "exec_id": "late", "account": "Sim101"})
        bids: list[float] = []

        def take() -> bool:
            bids.extend(bench.ticks()["bid"].tolist())
            return bids[-1:] == [69_999.0]

        bench.until(take)
        (ticks_before,) = bench.desk.ticks_before
        assert ticks_before < len(bids) < 60_000, "the fill came before ticks that were queued before it"
        bench.until(lambda: bench.count("ticks_dropped_at_source") + len(bids) + bench.reader.lost >= 60_000)
        assert bench.count("ticks_dropped_at_source") + len(bids) + bench.reader.lost == 60_000
        bench.close()
