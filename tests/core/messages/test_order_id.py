"""Client order ids: same input same id, different input different id, recognisable inside other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.messages import (
    OrderRole,
    client_order_id,
    find_client_order_id,
    magic_number,
    signal_key,
)
from nexus_gateway.core.messages.order_id import LENGTH, MAX_ATTEMPTS, MAX_LEGS

signal_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
parts = st.tuples(
    signal_ids,
    st.integers(0, MAX_LEGS - 1),
    st.sampled_from(OrderRole),
    st.integers(0, MAX_ATTEMPTS - 1),
)


def named(part):
    signal_id, leg, role, attempt = part
    return client_order_id(signal_key(signal_id), leg, role, attempt)


def test_a_known_id_never_changes():
    # A change would make every order of a running system unrecognisable after an update.
    assert client_order_id(signal_key("nexus-000042"), 2, OrderRole.ENTRY, 33) == "NXG56G2AKPOOWFNCEBBQD"


@given(parts)
def test_ids_fit_the_narrowest_platform_field_and_come_apart_again(part):
    order_id = named(part)
    assert len(order_id) == LENGTH <= 25
    assert order_id.isascii()
    assert order_id.isalnum()
    found = find_client_order_id(order_id)
    assert found is not None
    assert (found.key, found.leg, found.role, found.attempt) == (signal_key(part[0]), *part[1:])


@given(parts, parts)
def test_different_orders_have_different_ids(one, other):
    assert (named(one) == named(other)) == (one == other)
    assert (magic_number(named(one)) == magic_number(named(other))) == (one == other)


@given(parts, st.text(max_size=8), st.text(max_size=8))
def test_text_that_a_broker_adds_does_not_hide_an_id(part, before, after):
    found = find_client_order_id(f"{before} {named(part)}{after}")
    assert found is not None
    assert found.client_order_id == named(part)


@given(parts, st.integers(1, LENGTH))
def test_a_cut_off_id_is_not_ours(part, cut):
    assert find_client_order_id(named(part)[:-cut]) is None


@given(parts)
def test_magic_fits_a_signed_64_bit_integer(part):
    assert 0 <= magic_number(named(part)) < 2**63


@pytest.mark.parametrize(("leg", "attempt"), [(-1, 0), (MAX_LEGS, 0), (0, -1), (0, MAX_ATTEMPTS)])
def test_out_of_range_is_refused(leg, attempt):
    with pytest.raises(ValueError, match="leg"):
        client_order_id(signal_key("x"), leg, OrderRole.ENTRY, attempt)
