"""A signal that is over, as it is kept in a row of the journal: everything that the state had of it."""

from __future__ import annotations

from typing import Final

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


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(FinishedSignal)


def write_finished(finished: FinishedSignal) -> bytes:
    """Return the row's payload; its layout is `STATE_LAYOUT`."""
    return _encoder.encode(finished)


def read_finished(layout: int, payload: bytes) -> FinishedSignal:
    """Read a row's payload.

    Raises: GatewayError when it is damaged, or of a layout that this version does not know.
    """
    if layout != STATE_LAYOUT:
        raise GatewayError(f"a finished signal has state layout {layout}, this program knows {STATE_LAYOUT}")
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, ArithmeticError) as error:
        raise GatewayError(f"a finished signal cannot be read: {error}; run `nexus-gateway journal verify`") from error
