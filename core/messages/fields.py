"""Field types, and checks that a type alone cannot make.

msgspec checks types, lengths and patterns while decoding. But it accepts the decimals "NaN" and "Infinity", with which
every later comparison would be false. So each struct with a decimal calls `check_*` when it is built: in the process
that makes the message, and again in the one that decodes it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

from ..bounds import MAX_DECIMAL_PLACES, PLAIN_TEXT, show_decimal

MAX_PRICE = Decimal(10) ** 9
MAX_QUANTITY = Decimal(10) ** 6
MAX_POSITION = Decimal(10) ** 12
"""Above `MAX_QUANTITY`: a position is a sum of executions, and must be reported however large it is."""
MAX_MONEY = Decimal(10) ** 12
MAX_COMPUTED = 200
"""Most digits of a computed amount: far more than any has, and few enough to write out."""
MAX_ROWS = 5_000
"""Most rows of one list in one message. A larger snapshot is a fault of its sender."""

_ID = r"^[!-~]+\Z"

Platform = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\Z", max_length=16)]
OptionalPlatform = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]*)?\Z", max_length=16)]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Za-z0-9._/-]*\Z", max_length=32)]
Contract = Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)]
AccountName = Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)]
SignalId = Annotated[str, Meta(pattern=_ID, max_length=64)]
ClientOrderId = Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)]
"""Ours has `order_id.LENGTH` characters, or `OLD_LENGTH`; the tag of an external order may be longer."""
PlatformOrderId = Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)]
ExecutionId = Annotated[str, Meta(pattern=_ID, max_length=128)]
Ticket = Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=32)]
Text = Annotated[str, Meta(max_length=512)]
"""For people, kept as it came: what shows it makes it safe."""
Name = Annotated[str, Meta(pattern=PLAIN_TEXT, min_length=1, max_length=64)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3,5}\Z")]
OptionalCurrency = Annotated[str, Meta(pattern=r"^([A-Z]{3,5})?\Z")]
TimeNs = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


def _check(name: str, value: Decimal, limit: Decimal) -> None:
    if not value.is_finite():
        raise ValueError(f"{name} must be a finite number, was {show_decimal(value)}")
    if not -limit <= value <= limit:
        raise ValueError(f"{name} must lie within ±{limit:f}, was {show_decimal(value)}")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and not -MAX_DECIMAL_PLACES <= exponent <= MAX_DECIMAL_PLACES:
        raise ValueError(f"{name} must have at most {MAX_DECIMAL_PLACES} decimal places, was {show_decimal(value)}")


def check_price(name: str, value: Decimal | None) -> None:
    """Check a price: finite, within ±`MAX_PRICE`. Negative ones are legal (oil, spreads).

    Raises: ValueError with the field's name and value.
    """
    if value is not None:
        _check(name, value, MAX_PRICE)


def check_distance(name: str, value: Decimal | None) -> None:
    """Check a distance in quote units: finite, above zero, at most `MAX_PRICE`.

    Raises: ValueError with the field's name and value.
    """
    if value is not None:
        _check(name, value, MAX_PRICE)
        if value <= 0:
            raise ValueError(f"{name} must be above zero, was {show_decimal(value)}")


def check_quantity(name: str, value: Decimal | None) -> None:
    """Check a quantity in lots: finite, above zero, at most `MAX_QUANTITY`.

    Raises: ValueError with the field's name and value.
    """
    if value is not None:
        _check(name, value, MAX_QUANTITY)
        if value <= 0:
            raise ValueError(f"{name} must be above zero, was {show_decimal(value)}")


def check_signed_quantity(name: str, value: Decimal) -> None:
    """Check a signed quantity in lots: finite, of either sign or zero, within ±`MAX_POSITION`.

    Raises: ValueError with the field's name and value.
    """
    _check(name, value, MAX_POSITION)


def check_money(name: str, value: Decimal | None) -> None:
    """Check an amount of money: finite, of either sign, within ±`MAX_MONEY`.

    Raises: ValueError with the field's name and value.
    """
    if value is not None:
        _check(name, value, MAX_MONEY)


def check_computed(**values: Decimal | None) -> None:
    """Check amounts that the gateway has computed, by name: finite, and short when they are written out.

    They may have more decimals than a price has. Raises: ValueError with the field's name and value.
    """
    for name, value in values.items():
        if value is None:
            continue
        if not value.is_finite():
            raise ValueError(f"{name} must be a finite number, was {show_decimal(value)}")
        if not -MAX_COMPUTED <= value.adjusted() <= MAX_COMPUTED or len(value.as_tuple().digits) > MAX_COMPUTED:
            raise ValueError(f"{name} must be written with at most {MAX_COMPUTED} digits, was {show_decimal(value)}")


def check_prices(order_type: str, limit_price: Decimal | None, stop_price: Decimal | None) -> None:
    """Check that exactly the prices that an order type needs are given.

    Raises: ValueError. A market order with a price is refused too, not silently sent without it.
    """
    check_price("limit_price", limit_price)
    check_price("stop_price", stop_price)
    if (limit_price is not None) != (order_type in ("limit", "stop_limit")):
        raise ValueError(f"limit_price was {limit_price}, which does not fit a {order_type} order")
    if (stop_price is not None) != (order_type in ("stop", "stop_limit")):
        raise ValueError(f"stop_price was {stop_price}, which does not fit a {order_type} order")


def check_good_till(time_in_force: str, good_till_ns: int) -> None:
    """Check that `good_till_ns` is given for GTD and for no other time in force.

    Raises: ValueError.
    """
    if (good_till_ns > 0) != (time_in_force == "gtd"):
        raise ValueError(f"good_till_ns was {good_till_ns}, which does not fit time in force {time_in_force}")
