"""The bounds of numbers and names that come in."""

from __future__ import annotations

import sys
import unicodedata
from decimal import Decimal

import pytest
from nexus_gateway.core.bounds import MAX_MAGNITUDE, is_bounded, is_plain, show_decimal


def test_plain_text_is_without_control_format_and_line_separators():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if category in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            assert not is_plain(f"A{char}"), hex(code)
        elif category != "Cn":
            assert is_plain(f"A{char}"), hex(code)


def test_the_end_of_a_line_is_no_end_of_a_name():
    assert not is_plain("SIM1\n")
    assert is_plain("")


@pytest.mark.parametrize("text", ["1E-12", "0.000000000001", "1E12", "-1E12", "0"])
def test_within_the_bounds(text):
    assert is_bounded(Decimal(text))


@pytest.mark.parametrize(
    "text", ["1E-13", "1E13", "1E999999999", "-1E-999999999", "NaN", "sNaN", "-Infinity", "7" * 13]
)
def test_beyond_the_bounds(text):
    assert not is_bounded(Decimal(text))


def test_a_number_is_shown_short():
    assert show_decimal(Decimal("1E999999999")) == "1E+999999999"
    assert show_decimal(Decimal("7" * 5_000)) == "7" * 40 + "..."
    assert MAX_MAGNITUDE == 10**12
