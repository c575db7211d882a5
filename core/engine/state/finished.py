"""A signal that is over, as it is kept in a row of the journal: everything that the state had of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from ...errors import GatewayError
from ...messages import Report
from .orders import ExecutionRecord, OrderRecord
from .signals import SignalRecord
from .whole import STATE_LAYOUT


class FinishedName(Struct, frozen=True):
    """What a symbol of a leg meant when its signal finished: after a roll the same lots go under another name."""

    route: str
    symbol: str
    contract: str  # contract that the account's adapter named for it; empty = none
    root: str  # root that the contract had been rolled out of, so that it went under its own name; empty = it was not


class FinishedSignal(Struct, kw_only=True):
    """What leaves the state when a signal finishes, and comes back when it is recalled."""

    record: SignalRecord
    report: Report  # its last one
    orders: dict[str, OrderRecord]  # ClOrdID -> order
    executions: dict[str, ExecutionRecord]  # platform|account|ExecID -> execution
    unlisted: list[str]  # keys of those that its account did not list: booked before it was retired
    tickets: list[tuple[str, str, int]]  # (route, position ticket, leg) that it owned
    names: list[FinishedName]


Converter = Callable[[dict[str, Any]], dict[str, Any]]

FIRST_LAYOUT: Final = 8
"""The state layout with which there were rows first."""
CONVERTERS: Final[dict[int, Converter]] = {}
"""Former layout -> converter of a row to the next one, as `layouts.CONVERTERS` has them for whole states. A layout that
changes a signal, an order, an execution or a report needs one in both places."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(FinishedSignal)


def write_finished(finished: FinishedSignal) -> bytes:
    """Return the row's payload; its layout is `STATE_LAYOUT`."""
    return _encoder.encode(finished)


def read_finished(layout: int, payload: bytes, converters: Mapping[int, Converter] = CONVERTERS) -> FinishedSignal:
    """Read a row's payload, of this version or of a former one.

    Raises: GatewayError when it is damaged, of a newer layout, or of one without a converter.
    """
    try:
        if layout == STATE_LAYOUT:
            return _decoder.decode(payload)
        plain = msgspec.msgpack.decode(payload)
        for step in range(layout, STATE_LAYOUT):
            plain = converters[step](plain)
        if layout < STATE_LAYOUT:
            return _decoder.decode(_encoder.encode(plain))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise GatewayError(
            f"a finished signal of layout {layout} cannot be read: {type(error).__name__} {error}; run `nexus-gateway "
            "journal verify`"
        ) from error
    raise GatewayError(f"a finished signal has layout {layout}, this program knows up to {STATE_LAYOUT}; update it")
