"""bridges/PROTOCOL.md, its golden vectors and the adapter's codec say the same."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import re
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from nexus_gateway.adapters.bridge import messages as bm
from nexus_gateway.adapters.bridge.frames import (
    HEADER_BYTES,
    MAX_GREETING_BYTES,
    MAX_MESSAGE_BYTES,
    MESSAGE,
    VERSION,
    FrameBuffer,
    FrameError,
    pack_frame,
)
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages.order_id import LENGTH, OLD_LENGTH
from nexus_gateway.shm.tick import TICK_DTYPE, TickFlag

from tests.reference_bridge import vectors, wire
from tests.support.decimal_variants import variants

ROOT = Path(__file__).resolve().parents[3]
VECTORS = vectors.make_vectors()
GOOD = [each for each in VECTORS if not each.fault and not each.name.startswith("ticks_")]
BAD = [each for each in VECTORS if each.fault]
PROTOCOL = (ROOT / "bridges" / "PROTOCOL.md").read_text(encoding="utf-8")


def fill_buffer(data: bytes, step: int = 0, *, greeting: bool = False) -> tuple[FrameBuffer, list[bytes]]:
    """Feed a buffer as a socket would, `step` bytes at a time, and take each message as soon as it is there."""
    buffer = FrameBuffer()
    buffer.greeting = greeting
    messages = []
    position = 0
    while position < len(data):
        room = buffer.space()
        count = min(len(room), step or len(data), len(data) - position)
        room[:count] = data[position : position + count]
        buffer.received(count)
        position += count
        while (payload := buffer.pop_message()) is not None:
            messages.append(payload)
    return buffer, messages


def decode(data: bytes, sender: str) -> list[object]:
    _, messages = fill_buffer(data)
    decoder = bm.decode_from_bridge if sender == "bridge" else bm.decode_from_adapter
    return [decoder(payload) for payload in messages]


def test_the_files_are_those_that_the_code_makes():
    written = {path.name for path in vectors.FOLDER.glob("*.bin")}
    assert written == {f"{each.name}.bin" for each in VECTORS}
    for each in VECTORS:
        assert (vectors.FOLDER / f"{each.name}.bin").read_bytes() == each.data, each.name
    index = json.loads((vectors.FOLDER / "index.json").read_text(encoding="utf-8"))
    assert [entry["file"] for entry in index["vectors"]] == [f"{each.name}.bin" for each in VECTORS]


@pytest.mark.parametrize("vector", GOOD, ids=lambda each: each.name)
def test_the_adapter_reads_and_writes_each_message(vector):
    (envelope,) = decode(vector.data, vector.sender)
    payload = bm.encode_message(envelope)
    assert json.loads(payload) == vector.content, "nothing is lost or added on the way"
    assert pack_frame(MESSAGE, payload) == vector.data, "byte for byte"


@pytest.mark.parametrize("vector", GOOD, ids=lambda each: each.name)
def test_every_decimal_leaves_in_plain_notation_and_comes_back_equal(vector):
    (envelope,) = decode(vector.data, vector.sender)
    for changed, plain in variants(envelope):
        payload = bm.encode_message(changed)
        assert payload == msgspec.json.encode(plain)
        assert decode(pack_frame(MESSAGE, payload), vector.sender) == [changed]


@pytest.mark.parametrize(
    ("name", "decimals"),
    [
        ("adapter_place_ten", {"quantity": "1E+1", "limit_price": "1.8E+4"}),
        ("adapter_place_hundred", {"quantity": "1E+2", "limit_price": "1.8E+4", "take_profit": "2E+4"}),
        ("bridge_fill_ten", {"quantity": "1E+1", "price": "1.8E+4", "fee": "2E+1"}),
        ("bridge_fill_tiny", {"quantity": "1E+2", "price": "1E-7", "fee": "0E+3"}),
    ],
)
def test_decimals_with_an_exponent_make_the_vectors_without_one(name, decimals):
    (vector,) = (each for each in GOOD if each.name == name)
    (envelope,) = decode(vector.data, vector.sender)
    body, values = envelope.body, {key: Decimal(text) for key, text in decimals.items()}
    if isinstance(body, bm.Place):
        body = msgspec.structs.replace(body, order=msgspec.structs.replace(body.order, **values))
    else:
        body = msgspec.structs.replace(body, **values)
    assert pack_frame(MESSAGE, bm.encode_message(msgspec.structs.replace(envelope, body=body))) == vector.data


@pytest.mark.parametrize("vector", BAD, ids=lambda each: each.name)
def test_what_is_no_message_ends_the_session(vector):
    with pytest.raises(FrameError, match=r"."):
        decode(vector.data, vector.sender)


def test_every_message_has_a_vector():
    for union, sender in ((bm.FromBridge, "bridge"), (bm.ToBridge, "adapter")):
        kinds = {str(kind.__struct_config__.tag) for kind in union.__args__}
        assert kinds == {each.content["body"]["type"] for each in GOOD if each.sender == sender}


def test_tick_records_are_those_of_the_ring():
    for each in VECTORS:
        if not each.name.startswith("ticks_"):
            continue
        records = np.frombuffer(each.data[HEADER_BYTES:], TICK_DTYPE)
        for record, wanted in zip(records, each.content, strict=True):
            for name, value in wanted.items():
                found = record["symbol" if name == "symbol_id" else name]
                assert np.isnan(found) if value is None else found == value, name
    assert [flag.name for flag in TickFlag] == ["BID", "ASK", "TRADE", "BUYER", "SELLER", "SNAPSHOT", "ROLL", "STALE"]
    assert [int(flag) for flag in TickFlag] == [getattr(wire, flag.name) for flag in TickFlag]


TABLES = {
    "challenge": bm.Challenge,
    "login": bm.Login,
    "hello": bm.BridgeHello,
    "account of hello": bm.BridgeAccount,
    "capabilities": m.Capabilities,
    "subscribe": bm.Subscribe,
    "wanted symbol": bm.WantedSymbol,
    "subscribed": bm.Subscribed,
    "subscribed symbol": bm.SubscribedSymbol,
    "instrument": m.Instrument,
    "status": bm.Status,
    "symbol_status": bm.SymbolStatus,
    "notice": bm.Notice,
    "error": bm.Error,
    "heartbeat": bm.BridgeHeartbeat,
    "heartbeat of the adapter": bm.AdapterHeartbeat,
    "busy": bm.Busy,
    "place": bm.Place,
    "order": m.Order,
    "cancel": m.Cancel,
    "replace": m.Replace,
    "flatten": m.Flatten,
    "ack": bm.Ack,
    "order_update": m.OrderUpdate,
    "fill": m.Fill,
    "correction": m.Correction,
    "reject": m.Reject,
    "account": m.Account,
    "snapshot_request": m.SnapshotRequest,
    "snapshot": m.Snapshot,
    "part": m.Executions,
    "position": m.Position,
    "working order": m.WorkingOrder,
}


def field_tables() -> dict[str, list[tuple[str, str]]]:
    """(field, default) of each table of fields, by the name before it."""
    tables: dict[str, list[tuple[str, str]]] = {}
    title = ""
    rows = None
    for line in PROTOCOL.splitlines():
        if titled := re.match(r"(?:#### )?`([a-z_ ]+)`(?: \(.*\))?(?::| bridge| adapter| either)", line):
            title = titled.group(1)
        if line.startswith("| field |"):
            again = {"account": "account of hello", "heartbeat": "heartbeat of the adapter"}
            # The first account is that of hello; the second heartbeat is the adapter's.
            key = again[title] if title in again and (title in tables) == (title == "heartbeat") else title
            key = title if key in tables else key
            rows = tables[key] = []
        elif rows is not None and (row := re.match(r"\| ([a-z_]+) \|[^|]+\|([^|]*)\|", line)):
            rows.append((row.group(1), row.group(2).strip().strip("`")))
        elif not line.startswith("|"):
            rows = None
    return tables


@pytest.mark.parametrize("name", TABLES)
def test_the_page_lists_the_fields_of_the_code(name):
    documented = field_tables()[name]
    fields = msgspec.structs.fields(TABLES[name])
    assert [row[0] for row in documented] == [field.encode_name for field in fields]
    for (_, default), field in zip(documented, fields, strict=True):
        if field.required:
            shown = ""
        elif field.default is msgspec.NODEFAULT:
            shown = "{}"
        else:
            shown = json.dumps(msgspec.to_builtins(field.default))
        assert default == shown, field.name


def derive_as_the_page_says(entry: str, role: str) -> str:
    """The id of a stop or target by the words of the page alone, as a foreign bridge makes it."""

    def check(body: str) -> str:
        return base64.b32encode(hashlib.blake2b(body.encode("ascii"), digest_size=10).digest()).decode()[:2]

    body = entry[3:16] + role + entry[17:-2]
    found = check(body)
    if len(entry) == 22 and body[16] + found[0] == check(body[:16]):
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567A"
        found = letters[letters.index(found[0]) + 1] + found[1]
    return f"NXG{body}{found}"


def test_the_pages_example_ids_are_those_of_the_code():
    rows = re.findall(r"^\| `(NXG\w+)` \| `(NXG\w+)` \| `(NXG\w+)` \| (.*) ?\|$", PROTOCOL, re.MULTILINE)
    assert [len(row[0]) for row in rows] == [LENGTH] * 5 + [OLD_LENGTH]
    steps = []
    for entry, stop, target, _ in rows:
        parts = m.find_client_order_id(entry)
        assert parts.client_order_id == entry
        assert (stop, target) == (parts.id_of(m.OrderRole.STOP_LOSS), parts.id_of(m.OrderRole.TAKE_PROFIT))
        for order_id in (entry, stop, target):
            assert derive_as_the_page_says(order_id, order_id[16]) == order_id
            by_step_1 = base64.b32encode(hashlib.blake2b(order_id[3:-2].encode(), digest_size=10).digest())[:2]
            steps.append(by_step_1.decode() != order_id[-2:])
    wanted = [f"step 2 changes the {name}'s" for name in ("entry", "stop", "target")]
    assert [row[3].strip() for row in rows][2:5] == wanted
    assert [number for number, changed in enumerate(steps) if changed] == [6, 10, 14]
    body, digest = re.search(r"The hash of `(\w+)`, the first entry's, is `(\w+)`", PROTOCOL).groups()
    assert body == rows[0][0][3:-2]
    assert hashlib.blake2b(body.encode(), digest_size=10).hexdigest() == digest


def test_every_id_on_the_page_proves_itself():
    found = set(re.findall(r"NXG[A-Z2-7]{10,}", PROTOCOL))
    assert vectors.ORDER_ID in found
    assert all(m.find_client_order_id(each).client_order_id == each for each in found)
    assert f"ours have {LENGTH} ({OLD_LENGTH} before" in PROTOCOL
    assert f"which must hold {LENGTH} characters" in PROTOCOL


def test_the_vectors_ids_are_those_of_the_code():
    parts = m.find_client_order_id(vectors.ORDER_ID)
    assert parts.id_of(m.OrderRole.STOP_LOSS) == vectors.STOP_ID
    assert parts.id_of(m.OrderRole.TAKE_PROFIT) == vectors.TARGET_ID
    old = m.client_order_id(parts.key, parts.leg, parts.role, parts.attempt, OLD_LENGTH)
    assert old == vectors.OLD_ORDER_ID


def test_the_page_and_the_peers_name_one_version():
    assert PROTOCOL.startswith(f"# Bridge protocol, version {VERSION}\n")
    assert f"| 6 | 2 | version | {VERSION} |" in PROTOCOL
    assert wire.VERSION == VERSION
    index = json.loads((vectors.FOLDER / "index.json").read_text(encoding="utf-8"))
    assert index["protocol_version"] == VERSION


def test_the_pages_examples_are_messages():
    """In the page's words, spread over lines."""
    texts = re.findall(r"^    (\{\"seq\".*(?:\n     .*)*)$", PROTOCOL, re.MULTILINE)
    assert len(texts) == 5
    for text in texts:
        payload = "".join(line.strip() for line in text.splitlines()).encode()
        assert any(_is_message(payload, read) for read in (bm.decode_from_bridge, bm.decode_from_adapter)), text


def _is_message(payload: bytes, read: object) -> bool:
    try:
        return read(payload) is not None
    except FrameError:
        return False


def test_the_page_names_the_limits_and_the_codes_of_the_code():
    assert "4 MiB; 64 KiB before `hello`" in PROTOCOL
    assert (MAX_MESSAGE_BYTES, MAX_GREETING_BYTES) == (4 << 20, 64 << 10)
    assert bm.MAX_BUSY_MS == 120_000
    codes = re.search(r"Codes: (`wrong_token`.*?)\.\n", PROTOCOL, re.DOTALL)
    assert re.findall(r"`([a-z_]+)`", codes.group(1)) == list(bm.ErrorCode.__args__)
    rejects = re.search(r"Codes: (`platform_rejected`.*?)\.\n", PROTOCOL, re.DOTALL)
    assert set(re.findall(r"`([a-z_]+)`", rejects.group(1))) <= {code.value for code in m.RejectCode}


def vector_of(kind: str, sender: str = "bridge") -> dict[str, object]:
    return next(each.content for each in GOOD if each.sender == sender and each.content["body"]["type"] == kind)


NARROWER = [
    # row of the page, message, field, the last value that is allowed, the first that is not
    ("text `account`", "fill", "account", "a" * 64, "a" * 65),
    ("`client_order_id`", "fill", "client_order_id", "a" * 64, "a" * 65),
    ("`platform_order_id`", "fill", "platform_order_id", "a" * 64, "a" * 65),
    ("`contract`", "fill", "contract", "a" * 64, "a" * 65),
    ("`position_ticket`", "fill", "position_ticket", "a" * 32, "a" * 33),
    ("`nonce`", "challenge", "nonce", "0" * 128, "0" * 129),
    ("`proof`", "hello", "proof", "0" * 64, "0" * 63),
    ("`currency` of an account", "account", "currency", "ABCDE", "usd"),
    ("`fee_currency`", "fill", "fee_currency", "", "USDCENT"),
    ("symbol", "fill", "symbol", "N" * 32, "N" * 33),
    ("quantity of an order", "fill", "quantity", "1000000", "1000000.1"),
    ("quantity of an order", "fill", "quantity", "0.000000000001", "0"),
    ("`filled` may be 0", "order_update", "filled", "0", "-1"),
    ("prices", "fill", "price", "-1000000000", "1000000000.1"),
    ("money", "account", "balance", "1000000000000", "1000000000001"),
    ("`revision`", "correction", "revision", 2_147_483_647, 2_147_483_648),
    ("`accounts`", "hello", "accounts", [{"name": "a", "mode": "netting", "currency": "USD"}] * 100, 101),
    ("`details`", "hello", "details", {str(number): "" for number in range(50)}, 51),
]


@pytest.mark.parametrize(("row", "kind", "field", "last", "beyond"), NARROWER)
def test_what_is_narrower_than_its_type_is_on_the_page(row, kind, field, last, beyond):
    table = PROTOCOL.split("Narrower than their type are:")[1].split("\n\n")[1]
    assert row in table
    if field == "accounts":
        beyond = [*last, last[0]]
    elif field == "details":
        beyond = {**last, "one more": ""}

    def read(value: object) -> object:
        content = json.loads(json.dumps(vector_of(kind)))
        content["body"][field] = value
        return bm.decode_from_bridge(json.dumps(content).encode())

    read(last)
    with pytest.raises(FrameError):
        read(beyond)


@pytest.mark.parametrize("step", [1, 3, 7, 64, 1000])
def test_frames_may_arrive_in_pieces(step):
    data = b"".join(each.data for each in GOOD)
    _, messages = fill_buffer(data, step)
    assert [json.loads(payload) for payload in messages] == [each.content for each in GOOD]


def test_a_large_message_makes_room_for_itself():
    notice = {"type": "notice", "level": "info", "text": ""}
    large = wire.pack_message(1, notice)[HEADER_BYTES:].ljust(MAX_MESSAGE_BYTES)
    frame = pack_frame(MESSAGE, large)
    _, messages = fill_buffer(wire.pack_message(1, notice) + frame + wire.pack_message(2, notice), 65_536)
    assert [len(each) for each in messages][1] == MAX_MESSAGE_BYTES
    assert len(messages) == 3
    with pytest.raises(FrameError, match="must be 1 to 65536"):
        fill_buffer(frame, greeting=True)


def test_fuzz_a_changed_byte_is_a_message_or_a_breach():
    chance = random.Random(5)
    for _ in range(3000):
        vector = chance.choice(GOOD)
        data = bytearray(vector.data)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(FrameError):  # anything else would end the adapter's process
            decode(bytes(data), vector.sender)


def test_fuzz_random_bytes():
    chance = random.Random(6)
    for _ in range(500):
        with contextlib.suppress(FrameError):
            decode(chance.randbytes(chance.randint(1, 200)), "bridge")


def test_deep_nesting_is_a_breach():
    payload = b'{"seq":1,"body":' + b"[" * 60_000
    with pytest.raises(FrameError):
        decode(pack_frame(MESSAGE, payload), "bridge")
