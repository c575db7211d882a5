"""The tick kernel of a bridge: what passes, what is refused, and that it agrees with plain Python."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
from nexus_gateway.adapters.bridge.frames import FrameBuffer
from nexus_gateway.adapters.bridge.ticks import TickFault, TickIntake
from nexus_gateway.shm.symbols import CAPACITY
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag

from tests.reference_bridge import wire

NOW_NS = time.time_ns()
INF, NAN = math.inf, math.nan


def make_intake(*symbol_ids: int) -> TickIntake:
    intake = TickIntake(Platform.NT8)
    for symbol_id in symbol_ids or (3,):
        intake.begin_symbol(symbol_id, "x")
        intake.allow(symbol_id)
    return intake


def take(intake: TickIntake, data: bytes) -> tuple[int, np.ndarray]:
    """Bytes used, and a copy of the sound records."""
    held = np.frombuffer(bytearray(data), np.uint8)
    address = int(held.ctypes.data)
    used = intake.process_frames(address, len(held))
    first = intake.first - address
    sound = held[first : first + 64 * intake.sound].view(TICK_DTYPE).copy() if used else np.zeros(0, TICK_DTYPE)
    return used, sound


def quote(**changes: object) -> wire.Tick:
    return wire.Tick(3, NOW_NS, wire.BID, 18000.0, 18000.25, NAN, 1, 2, 0)._replace(**changes)


def frame(*ticks: wire.Tick) -> bytes:
    return wire.pack_ticks([wire.pack_tick(tick) for tick in ticks])


def test_a_sound_record_passes_unchanged_but_for_its_source():
    data = frame(quote(last=5.0, last_size=3, flags=wire.TRADE | wire.BUYER))
    used, (record,) = take(make_intake(), data)
    assert used == len(data)
    assert record["source"] == Platform.NT8
    wanted = np.frombuffer(data[8:], TICK_DTYPE).copy()
    wanted["source"] = Platform.NT8
    assert record.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"symbol_id": 4}, TickFault.SYMBOL),
        ({"symbol_id": 0}, TickFault.SYMBOL),
        ({"symbol_id": 65_535}, TickFault.SYMBOL),
        ({"bid": INF}, TickFault.NUMBER),
        ({"ask": -INF}, TickFault.NUMBER),
        ({"last": INF}, TickFault.NUMBER),
        ({"bid_size": -1.0}, TickFault.NUMBER),
        ({"ask_size": INF}, TickFault.NUMBER),
        ({"last_size": -0.5}, TickFault.NUMBER),
        ({"flags": wire.TRADE}, TickFault.FLAGS),
        ({"flags": wire.BUYER | wire.SELLER}, TickFault.FLAGS),
        ({"ts_event_ns": 0}, TickFault.TIME),
        ({"ts_event_ns": -1}, TickFault.TIME),
        ({"ts_event_ns": NOW_NS // 1000}, TickFault.TIME),
        ({"ts_event_ns": NOW_NS + 2 * 86_400_000_000_000}, TickFault.TIME),
    ],
)
def test_refused(changes, fault):
    intake = make_intake()
    # Its neighbours pass: one bad tick does not take others with it.
    _, sound = take(intake, frame(quote(bid=1.0), quote(**changes), quote(bid=2.0)))
    assert list(sound["bid"]) == [1.0, 2.0]
    assert (intake.received, intake.refused, intake.faults) == (3, 1, fault)


@pytest.mark.parametrize(
    "changes",
    [
        {"bid": NAN, "ask": NAN, "bid_size": NAN, "ask_size": NAN},
        {"bid": 0.0, "ask": 0.0},
        {"bid": -37.63},
        {"bid": 2.0, "ask": 1.0},
        {"flags": 0},
        {"flags": wire.STALE},
        {"ts_event_ns": NOW_NS + 3_600_000_000_000},
    ],
)
def test_odd_but_true(changes):
    _, sound = take(make_intake(), frame(quote(**changes)))
    assert len(sound) == 1


def test_what_follows_is_left_for_python():
    notice = wire.pack_message(1, {"type": "notice", "level": "info", "text": ""})
    ticks = frame(quote(bid=1.0)) + frame(quote(bid=2.0), quote(bid=3.0))
    for rest in (
        notice,
        ticks[:5],
        ticks[:71],
        b"\0" * 8,
        wire.HEADER.pack(64, wire.TICKS, 1, wire.VERSION) + bytes(64),
    ):
        used, sound = take(make_intake(), ticks + rest)
        assert used == len(ticks)
        assert list(sound["bid"]) == [1.0, 2.0, 3.0]
    for bad in (
        wire.HEADER.pack(64, wire.TICKS, 0, wire.VERSION + 1),
        wire.HEADER.pack(4097 * 64, wire.TICKS, 0, wire.VERSION),
    ):
        assert take(make_intake(), bad + bytes(64))[0] == 0


def test_how_many_ticks_had_the_newest_time():
    intake = make_intake(3, 4)
    take(intake, frame(quote(ts_event_ns=NOW_NS), quote(), quote(symbol_id=4), quote(ts_event_ns=NOW_NS - 5)))
    assert intake.begin_symbol(3, "x") == (NOW_NS, 2)
    later = quote(ts_event_ns=NOW_NS + 1)
    # State is no event, and what was refused never arrived.
    take(
        intake,
        frame(later, later._replace(flags=wire.SNAPSHOT), later._replace(flags=wire.STALE), later._replace(bid=INF)),
    )
    assert intake.begin_symbol(3, "x") == (NOW_NS + 1, 1)
    intake.begin_session()
    assert intake.begin_symbol(4, "x") == (NOW_NS, 1), "kept over a reconnect"
    assert intake.begin_symbol(4, "another contract") == (0, 0)


def test_a_successor_begins_where_the_ring_ends():
    ticks = np.zeros(7, TICK_DTYPE)
    ticks["symbol"] = [3, 3, 3, 3, 3, 4, 5]
    ticks["ts_event_ns"] = [NOW_NS - 1, NOW_NS, NOW_NS, NOW_NS - 1, NOW_NS + 5, NOW_NS - 9, NOW_NS + 5]
    ticks["flags"] = [1, 2, 4, 1, int(TickFlag.STALE), 1, int(TickFlag.SNAPSHOT)]
    intake = TickIntake(Platform.NT8)
    intake.adopt(ticks, NOW_NS - 5)
    assert intake.begin_symbol(3, "x") == (NOW_NS, 2), "states and marks are no events"
    assert intake.begin_symbol(4, "x") == (0, 0), "too long ago"
    assert intake.begin_symbol(5, "x") == (0, 0)
    assert intake.begin_symbol(3, "y") == (0, 0), "another contract"


def naive(records: np.ndarray, wanted: set[int]) -> list[bool]:
    """Plain twin of the kernel's checks."""
    sound = []
    for r in records:
        prices = [float(r[name]) for name in ("bid", "ask", "last")]
        sizes = [float(r[name]) for name in ("bid_size", "ask_size", "last_size")]
        flags = int(r["flags"])
        sound.append(
            int(r["symbol"]) in wanted
            and not any(math.isinf(value) for value in prices + sizes)
            and not any(value < 0 for value in sizes)
            and not (flags & wire.TRADE and math.isnan(prices[2]))
            and flags & (wire.BUYER | wire.SELLER) != wire.BUYER | wire.SELLER
            and 946_684_800 * 10**9 <= int(r["ts_event_ns"]) <= time.time_ns() + 86_400 * 10**9
        )
    return sound


@pytest.mark.parametrize("seed", range(20))
def test_random_records_against_the_plain_twin(seed):
    chance = random.Random(seed)
    odd = (INF, -INF, NAN, -1.0, 0.0, 1.0, 18000.25, 1e300)
    frames, records = b"", []
    for _ in range(chance.randint(1, 40)):
        ticks = [
            wire.Tick(
                chance.choice((1, 2, 3, 4, CAPACITY - 1, CAPACITY, 60_000)),
                chance.choice((NOW_NS, NOW_NS - 10**15, 0, NOW_NS + 10**17)) if chance.random() < 0.3 else NOW_NS,
                chance.randrange(256),
                *(chance.choice(odd) if chance.random() < 0.2 else 1.5 for _ in range(3)),
                *(chance.choice(odd[:7]) if chance.random() < 0.1 else 1.5 for _ in range(3)),
            )
            for _ in range(chance.choice((1, 2, 7, 64)))
        ]
        records += [wire.pack_tick(tick) for tick in ticks]
        frames += frame(*ticks)
    wanted = {1, 3, CAPACITY - 1}
    intake = make_intake(*wanted)
    used, sound = take(intake, frames)
    plain = np.frombuffer(b"".join(records), TICK_DTYPE).copy()
    kept = plain[naive(plain, wanted)]
    kept["source"] = Platform.NT8
    assert used == len(frames)
    assert sound.tobytes() == kept.tobytes()
    assert (intake.received, intake.refused) == (len(plain), len(plain) - len(kept))


def test_random_bytes_never_get_past_the_kernel_as_ticks_of_others():
    chance = random.Random(9)
    intake = make_intake(7)
    for _ in range(300):
        payload = chance.randbytes(64 * chance.randint(1, 20))
        _, sound = take(intake, wire.HEADER.pack(len(payload), wire.TICKS, 0, wire.VERSION) + payload)
        assert all(record["symbol"] == 7 for record in sound)


@pytest.mark.parametrize("step", [1, 3, 64, 100_000])
def test_through_the_buffer_in_pieces(step):
    """Ticks and messages mixed, arriving as TCP likes, come out whole and in their order."""
    notice = {"type": "notice", "level": "info", "text": "between"}
    count = 600 if step < 64 else 40_000
    data = b"".join(
        frame(*(quote(bid=float(number + i)) for i in range(4))) + wire.pack_message(number // 4 + 1, notice)
        for number in range(0, count, 4)
    )
    intake, buffer = make_intake(), FrameBuffer()
    buffer.greeting = False
    bids, messages, position = [], 0, 0
    while position < len(data):
        room = buffer.space()
        piece = data[position : position + min(step, len(room))]
        room[: len(piece)] = piece
        buffer.received(len(piece))
        position += len(piece)
        while True:
            used = intake.process_frames(buffer.address + buffer.start, buffer.end - buffer.start)
            if used:
                start = intake.first - buffer.address
                bids += np.asarray(buffer._bytes)[start : start + 64 * intake.sound].view(TICK_DTYPE)["bid"].tolist()
            buffer.consume(used)
            if buffer.pop_message() is not None:
                messages += 1
            elif not used:
                break
    assert bids == [float(i) for i in range(count)]
    assert messages == count // 4
    assert buffer.start == buffer.end
