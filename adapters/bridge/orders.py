"""Commands to a bridge, and the rejects of those that were not sent. Pure."""

from __future__ import annotations

import msgspec

from ...core.messages import (
    Cancel,
    Flatten,
    Order,
    OrderRole,
    Reject,
    RejectCode,
    Replace,
    find_client_order_id,
)
from ..base import Command
from .messages import Place
from .session import ClockOffset


def make_place(order: Order, clock: ClockOffset) -> Place:
    """Return the bridge's command: time limit by the bridge's clock, client order ids for its stop and target."""
    parts = find_client_order_id(order.client_order_id)
    children = {OrderRole.STOP_LOSS: order.stop_loss, OrderRole.TAKE_PROFIT: order.take_profit}
    stop_loss_id, take_profit_id = (
        parts.id_of(role) if parts is not None and price is not None else "" for role, price in children.items()
    )
    not_after_ns = clock.latest_at_bridge(order.not_after_ns)
    return Place(
        order=msgspec.structs.replace(order, not_after_ns=not_after_ns),
        stop_loss_id=stop_loss_id,
        take_profit_id=take_profit_id,
    )


def make_command(command: Command, clock: ClockOffset) -> Place | Cancel | Replace | Flatten:
    """Return a command as it goes to the bridge: time limits are by the bridge's clock."""
    match command:
        case Order():
            return make_place(command, clock)
        case Flatten():
            return msgspec.structs.replace(command, not_after_ns=clock.latest_at_bridge(command.not_after_ns))
    return command


def make_refusal(command: Command, text: str) -> Reject:
    """Return the reject of a command that was not sent. For a cancel or replace, its code leaves the order alive."""
    match command:
        case Order() | Flatten():
            code = RejectCode.LINK_DOWN
        case Cancel():
            code = RejectCode.CANCEL_REJECTED
        case Replace():
            code = RejectCode.REPLACE_REJECTED
    return Reject(
        code=code,
        text=text,
        client_order_id="" if isinstance(command, Flatten) else command.client_order_id,
        platform=command.platform,
        account=command.account,
        replace_revision=command.revision if isinstance(command, Replace) else 0,
    )
