"""What must not come in: other versions, wrong numbers, unknown words, hostile bytes."""

from __future__ import annotations

import typing
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import RejectCode
from nexus_gateway.core.messages.order_id import LENGTH, OLD_LENGTH

from tests.golden.examples import EXAMPLES, envelope, kind

BY_KIND = {kind(example): example for example in EXAMPLES}


def refused(built: object) -> m.MessageError:
    with pytest.raises(m.MessageError) as caught:
        m.decode(msgspec.msgpack.encode(built))
    return caught.value


def plain(name: str, **changes: object) -> dict:
    built = msgspec.to_builtins(envelope(BY_KIND[name]))
    built["body"].update(changes)
    return built


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(number):
    assert refused(plain("fill", price=number)).code is RejectCode.MALFORMED


@pytest.mark.parametrize("number", ["1e400", "1000000001", "0.0000000000001", "-1000000001", "1e-400000"])
def test_oversize_prices_are_refused(number):
    assert "price" in str(refused(plain("fill", price=number)))


@pytest.mark.parametrize("quantity", ["0", "-1", "1000001"])
def test_quantities_are_above_zero_and_bounded(quantity):
    assert "quantity" in str(refused(plain("fill", quantity=quantity)))


def test_another_version_is_refused_by_name_even_when_its_body_is_unreadable():
    built = plain("fill")
    built["version"] = m.PROTOCOL_VERSION + 1
    built["body"] = {"type": "from_the_future"}
    error = refused(built)
    assert error.code is RejectCode.WRONG_VERSION
    assert f"was {m.PROTOCOL_VERSION + 1}, this side speaks {m.PROTOCOL_VERSION}" in str(error)


def test_too_large_is_refused_before_parsing():
    with pytest.raises(m.MessageError) as caught:
        m.decode(b"\x00" * (m.MAX_MESSAGE_BYTES + 1))
    assert caught.value.code is RejectCode.TOO_LARGE


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("signal", {"surprise": 1}),
        ("signal", {"side": "hold"}),
        ("signal", {"platform": "mt5"}),
        ("signal", {"quantity": "1"}),  # beside risk_usd
        ("signal", {"limit_price": None}),  # of a limit order
        ("signal", {"stop_price": "1"}),  # of a limit order
        ("signal", {"bracket": None}),  # risk_usd without a stop
        ("signal", {"good_till_ns": 0}),  # of GTD
        ("signal", {"targets": []}),
        ("signal", {"targets": [{"platform": "mt5"}, {"platform": "mt5"}]}),
        ("signal", {"signal_id": ""}),
        ("signal", {"signal_id": "a b"}),
        ("signal", {"created_ns": -1}),
        ("signal", {"policy": {"kind": "quorum", "quorum": 3}}),
        ("signal", {"policy": {"kind": "best_effort", "quorum": 1}}),
        ("order", {"client_order_id": "short"}),
        ("order", {"platform": "MT5!"}),
        ("correction", {"kind": "bust"}),
        ("correction", {"revision": 0}),
        ("kill", {"level": 6}),
        ("hello", {"capabilities": None}),
        ("order_update", {"filled": "-1"}),
    ],
)
def test_bad_fields_are_refused(name, changes):
    assert refused(plain(name, **changes)).code is RejectCode.MALFORMED


@pytest.mark.parametrize("name", ["order", "replace"])
def test_an_order_has_an_id_of_either_form(name):
    for length in (LENGTH, OLD_LENGTH):
        order_id = m.client_order_id(m.signal_key("s"), 0, m.OrderRole.ENTRY, 0, length)
        built = plain(name, client_order_id=order_id)
        assert m.decode(msgspec.msgpack.encode(built)).body.client_order_id == order_id
    for order_id in ("N" * (OLD_LENGTH - 1), "N" * (LENGTH + 1)):
        assert "client_order_id" in str(refused(plain(name, client_order_id=order_id)))


def test_the_constructor_refuses_what_the_decoder_refuses():
    with pytest.raises(ValueError, match="exactly one"):
        m.Signal(
            signal_id="a",
            symbol="NQ",
            side=m.Side.BUY,
            created_ns=1,
            targets=(m.Target(platform="mt5"),),
        )


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_a_message_error(data):
    for read in (m.decode, m.decode_json):
        try:
            read(data)
        except m.MessageError:
            pass


@given(st.sampled_from(EXAMPLES), st.data())
def test_damaged_messages_give_a_message_or_a_message_error(example, data):
    damaged = bytearray(m.encode(envelope(example)))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        m.decode(damaged)
    except m.MessageError:
        pass


def test_deep_nesting_does_not_break_the_decoder():
    for data in (b"\x91" * 100_000 + b"\x00", b"\x81\xa4body" * 50_000 + b"\x00"):
        with pytest.raises(m.MessageError):
            m.decode(data)
    with pytest.raises(m.MessageError):
        m.decode_json(b'{"body":' + b"[" * 100_000)


def _paths_of_decimals(value: object, declared: object, path: tuple = ()):
    """Each place of a message, in its plain form, where its type wants a decimal."""
    members = [declared, *typing.get_args(declared)]
    structs = [each for each in members if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    if isinstance(value, list):
        inner = [each for member in members for each in (member, *typing.get_args(member)) if each is not Ellipsis]
        for number, item in enumerate(value):
            for each in inner:
                if isinstance(each, type) and issubclass(each, msgspec.Struct):
                    yield from _paths_of_decimals(item, each, (*path, number))
    elif isinstance(value, dict) and structs:
        for field in msgspec.structs.fields(structs[0]):
            yield from _paths_of_decimals(value.get(field.encode_name), field.type, (*path, field.encode_name))
    elif Decimal in members:
        yield path


WITH_DECIMALS = [
    (kind(example), path)
    for example in EXAMPLES
    for path in _paths_of_decimals(msgspec.to_builtins(example), type(example))
]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1E999999999", "-1E999999", "1E-999999999", "7" * 5_000])
@pytest.mark.parametrize(("name", "path"), WITH_DECIMALS, ids=lambda value: ".".join(map(str, value)))
def test_no_decimal_of_any_message_is_without_bounds(name, path, number):
    built = plain(name)
    inner = built["body"]
    for step in path[:-1]:
        inner = inner[step]
    assert path[-1] in inner
    inner[path[-1]] = number
    if "instruments" in path:
        # Old journals may hold such a hello: its receiver asks for the fault.
        (instrument, *_) = m.decode(msgspec.msgpack.encode(built)).body.instruments
        fault = instrument.find_fault()
        assert path[-1] in fault
    else:
        fault = str(refused(built))
    assert path[-1] in fault or "quantity" in fault or "price" in fault
    assert len(fault) < 500


@pytest.mark.parametrize("name", ["tick_size", "lot_step", "point_value"])
@pytest.mark.parametrize("number", ["0", "-1", "1E-13", "1000000001", "1E-300000"])
def test_the_fault_of_an_instrument_names_the_number_and_the_symbol(name, number):
    good = m.Instrument(symbol="NQ", platform_symbol="NQ", tick_size=Decimal("0.25"), lot_step=Decimal(1))
    assert good.find_fault() == ""
    fault = msgspec.structs.replace(good, **{name: Decimal(number)}).find_fault()
    assert fault.startswith(f"{name} of NQ must ")


IDENTIFYING = {
    "hello": ["name", "boot_id", "account"],
    "order": ["client_order_id", "account", "symbol", "contract", "platform", "oco_group", "close_ticket"],
    "order_update": ["client_order_id", "account", "symbol", "platform_order_id"],
    "fill": ["client_order_id", "account", "symbol", "exec_id", "platform_order_id", "contract", "position_ticket"],
    "reject": ["client_order_id", "signal_id", "platform", "account"],
    "signal": ["signal_id", "symbol"],
    "kill": ["by"],
    "acknowledge": ["symbol", "account", "by"],
}
HOSTILE = ["\x1b[2J", "A\r\nrow ok", "\x07", "\u202eDROW", "A\u200b", "\u2028", "\x9b31m", "SIM1\n"]


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in IDENTIFYING.items() for field in fields])
def test_text_that_says_which_thing_is_meant_is_plain(name, field):
    built = plain(name)
    value = built["body"].get(field) or "A"
    for hostile in (*HOSTILE, f"{value}\n"):
        built["body"][field] = hostile
        error = refused(built)
        assert error.code is RejectCode.MALFORMED
        assert f"$.body.{field}" in str(error)
        assert str(error).isprintable()


def test_the_refusal_of_a_name_says_what_is_allowed():
    text = str(refused(plain("hello", account="A\u202e")))
    assert text == (
        "message refused: Expected text without control, format and bidirectional characters - at `$.body.account`"
    )


def test_free_text_is_kept_as_it_came():
    built = plain("reject", text="\x1b[2J\u202e")
    assert m.decode(msgspec.msgpack.encode(built)).body.text == "\x1b[2J\u202e"
