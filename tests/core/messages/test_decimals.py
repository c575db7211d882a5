"""Decimals leave in plain notation, whatever exponent they have; the value stays the same."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages.decimals import MAX_EXPANDED, encode_plain, to_plain_builtins, write_plain

from tests.golden.examples import EXAMPLES, envelope, kind
from tests.support.decimal_variants import VALUES, variants

CODECS = {
    "messagepack": (m.encode, m.decode, msgspec.msgpack.Encoder(), msgspec.msgpack.decode),
    "json": (m.encode_json, m.decode_json, msgspec.json.Encoder(), msgspec.json.decode),
}
BY_KIND = {kind(example): example for example in EXAMPLES}
codecs = pytest.mark.parametrize("codec", CODECS)


@codecs
@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_every_decimal_of_every_message_leaves_plain_and_comes_back_equal(example, codec):
    encode, decode, encoder, _ = CODECS[codec]
    for changed, plain in variants(envelope(example)):
        data = encode(changed)
        assert data == encoder.encode(plain)
        assert decode(data) == changed


@codecs
@pytest.mark.parametrize("example", EXAMPLES, ids=kind)
def test_the_detour_writes_the_bytes_of_the_ordinary_encoder(example, codec):
    _, _, encoder, _ = CODECS[codec]
    assert encoder.encode(to_plain_builtins(envelope(example))) == encoder.encode(envelope(example))


@codecs
def test_the_size_of_a_signal_and_of_an_order(codec):
    encode, _, _, read = CODECS[codec]
    signal = m.Signal(
        signal_id="s",
        symbol="NQ",
        side=m.Side.BUY,
        created_ns=1,
        targets=(m.Target(platform="nt8", quantity=Decimal("2E+1")),),
        quantity=Decimal("1E+1"),
        order_type=m.OrderType.LIMIT,
        limit_price=Decimal("1.8E+4"),
    )
    body = read(encode(envelope(signal)))["body"]
    assert (body["quantity"], body["limit_price"], body["targets"][0]["quantity"]) == ("10", "18000", "20")
    order = msgspec.structs.replace(BY_KIND["order"], quantity=Decimal("1E+1"), stop_loss=Decimal("1E-7"))
    body = read(encode(envelope(order)))["body"]
    assert (body["quantity"], body["stop_loss"]) == ("10", "0.0000001")


@codecs
def test_texts_that_look_like_numbers_stay_as_they_are(codec):
    encode, decode, _, read = CODECS[codec]
    texts = {"text": "was 1E+1, SIDE-A, 0E-10", "measured": "1E+1", "limit": "1E-7", "code": m.RejectCode.MAX_SIZE}
    reject = m.Reject(**texts)
    assert decode(encode(envelope(reject))).body == reject
    fill = msgspec.structs.replace(
        BY_KIND["fill"], exec_id="E-991", platform_order_id="1E+1", quantity=Decimal("1E+1"), contract="1E-7"
    )
    body = read(encode(envelope(fill)))["body"]
    assert (body["exec_id"], body["platform_order_id"], body["contract"]) == ("E-991", "1E+1", "1E-7")
    assert body["quantity"] == "10"


@pytest.mark.parametrize(("number", "plain"), VALUES.items())
def test_plain_notation_is_the_same_number_with_the_same_places(number, plain):
    assert write_plain(Decimal(number)) == plain
    assert Decimal(plain) == Decimal(number)


@pytest.mark.parametrize("exponent", [MAX_EXPANDED + 1, -MAX_EXPANDED - 1, 999_999, -999_999])
def test_no_number_becomes_a_text_of_a_million_digits(exponent):
    number = Decimal(f"1E{exponent:+d}")
    assert write_plain(number) == str(number)
    assert encode_plain(msgspec.json.Encoder(), {"a": number}) == msgspec.json.encode({"a": number})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "sNaN1"])
def test_what_is_no_number_is_not_touched(number):
    assert write_plain(Decimal(number)) == number
