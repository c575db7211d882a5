"""Client order ids: same input same id, different input different id, recognisable inside other text, in both forms."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nexus_gateway.core.messages import (
    OrderRole,
    client_order_id,
    find_client_order_id,
    magic_number,
    signal_key,
)
from nexus_gateway.core.messages.order_id import LENGTH, MAX_ATTEMPTS, MAX_LEGS, OLD_LENGTH, OLD_MAX_ATTEMPTS

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
signal_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)


def of_form(length, attempts):
    return st.tuples(
        signal_ids,
        st.integers(0, MAX_LEGS - 1),
        st.sampled_from(OrderRole),
        st.integers(0, attempts - 1),
        st.just(length),
    )


new_parts = of_form(LENGTH, MAX_ATTEMPTS)
old_parts = of_form(OLD_LENGTH, OLD_MAX_ATTEMPTS)
parts = new_parts | old_parts


def named(part):
    signal_id, *rest = part
    return client_order_id(signal_key(signal_id), *rest)


def random_ids(count, length, attempts):
    chance = random.Random(count)
    for _ in range(count):
        key = "".join(chance.choices(ALPHABET, k=12))
        role = chance.choice(list(OrderRole))
        yield client_order_id(key, chance.randrange(MAX_LEGS), role, chance.randrange(attempts), length)


def test_a_known_id_never_changes():
    # A change would make every order of a running system unrecognisable after an update.
    key = signal_key("nexus-000042")
    assert client_order_id(key, 2, OrderRole.ENTRY, 33) == "NXG56G2AKPOOWFNCEABBSU"
    assert client_order_id(key, 2, OrderRole.ENTRY, OLD_MAX_ATTEMPTS) == "NXG56G2AKPOOWFNCEBAAPU"
    assert client_order_id(key, 2, OrderRole.ENTRY, MAX_ATTEMPTS - 1) == "NXG56G2AKPOOWFNCE777MC"
    assert client_order_id(key, 2, OrderRole.ENTRY, 33, OLD_LENGTH) == "NXG56G2AKPOOWFNCEBBQD"


@given(parts)
def test_ids_fit_the_narrowest_platform_field_and_come_apart_again(part):
    order_id = named(part)
    assert len(order_id) == part[-1] <= 25
    assert order_id.isascii()
    assert order_id.isalnum()
    found = find_client_order_id(order_id)
    assert found is not None
    assert found.client_order_id == order_id
    assert (found.key, found.leg, found.role, found.attempt) == (signal_key(part[0]), *part[1:-1])


@given(parts, parts)
def test_different_orders_have_different_ids(one, other):
    assert (named(one) == named(other)) == (one == other)
    assert (magic_number(named(one)) == magic_number(named(other))) == (one == other)


@given(parts, st.text(max_size=8), st.text(max_size=8))
def test_text_that_a_broker_adds_does_not_hide_an_id(part, before, after):
    found = find_client_order_id(f"{before} {named(part)}{after}")
    assert found is not None
    assert found.client_order_id == named(part)


@pytest.mark.parametrize("before", ["NXG", "NXGNXG", "NXGABCDEFGH", "NXGABCDEFGHIJKLAEAAAA"])
def test_text_that_begins_like_an_id_does_not_hide_the_one_behind_it(before):
    for order_id in (*random_ids(50, LENGTH, MAX_ATTEMPTS), *random_ids(50, OLD_LENGTH, OLD_MAX_ATTEMPTS)):
        found = find_client_order_id(before + order_id)
        assert found is not None
        assert found.client_order_id == order_id


@given(parts, st.integers(1, LENGTH))
@example(("nexus-000042", 2, OrderRole.ENTRY, 33, LENGTH), 1)
def test_a_cut_off_id_is_not_ours(part, cut):
    assert find_client_order_id(named(part)[:-cut]) is None


def test_a_cut_new_id_is_never_an_old_one():
    """20,000 ids, of which one in 1,024 would be one if its check characters were those of its hash alone."""
    avoided = 0
    for order_id in random_ids(20_000, LENGTH, MAX_ATTEMPTS):
        assert find_client_order_id(order_id[:-1]) is None
        assert find_client_order_id(order_id[:-1] + "[sl]") is None
        avoided += _is_avoided(order_id)
    assert avoided >= 10, "the case was met"


def _is_avoided(order_id):
    """Whether this id's first check character gave way: the one before it in the alphabet would make an old id."""
    first = ALPHABET[(ALPHABET.index(order_id[-2]) - 1) % 32]
    return find_client_order_id(order_id[:-2] + first) is not None


def test_a_letter_behind_an_old_id_never_makes_a_new_one():
    for order_id in random_ids(2_000, OLD_LENGTH, OLD_MAX_ATTEMPTS):
        for letter in ALPHABET:
            found = find_client_order_id(order_id + letter)
            assert found is not None
            assert found.client_order_id == order_id


@given(parts, st.sampled_from(OrderRole))
def test_what_is_derived_from_an_id_keeps_its_form(part, role):
    signal_id, leg, _, attempt, length = part
    found = find_client_order_id(named(part))
    assert found is not None
    assert found.id_of(role) == named((signal_id, leg, role, attempt, length))
    assert len(found.id_of(role)) == length


@given(parts)
def test_magic_fits_a_signed_64_bit_integer(part):
    assert 0 <= magic_number(named(part)) < 2**63


@pytest.mark.parametrize(
    ("leg", "attempt", "length"),
    [
        (-1, 0, LENGTH),
        (MAX_LEGS, 0, LENGTH),
        (0, -1, LENGTH),
        (0, MAX_ATTEMPTS, LENGTH),
        (0, OLD_MAX_ATTEMPTS, OLD_LENGTH),
        (0, -1, OLD_LENGTH),
        (0, 0, 20),
        (0, 0, 23),
    ],
)
def test_out_of_range_is_refused(leg, attempt, length):
    with pytest.raises(ValueError, match=r"(leg|attempt|length) was"):
        client_order_id(signal_key("x"), leg, OrderRole.ENTRY, attempt, length)
