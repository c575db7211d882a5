"""Conversion of commands, rejects and snapshots between the gateway and a bridge. Pure."""

from __future__ import annotations

import msgspec

from ...core.messages import (
    Account,
    Cancel,
    Executions,
    Fill,
    Order,
    OrderRole,
    Positions,
    Reject,
    RejectCode,
    Replace,
    Snapshot,
    SnapshotRequest,
    WorkingOrders,
    client_order_id,
    find_client_order_id,
)
from ..base import Command
from .frames import FrameError
from .messages import Place
from .session import ClockOffset


def make_place(order: Order, clock: ClockOffset) -> Place:
    """Return the bridge's command: time limit by the bridge's clock, client order ids for its stop and target."""
    parts = find_client_order_id(order.client_order_id)
    children = {OrderRole.STOP_LOSS: order.stop_loss, OrderRole.TAKE_PROFIT: order.take_profit}
    stop_loss_id, take_profit_id = (
        client_order_id(parts.key, parts.leg, role, parts.attempt) if parts is not None and price is not None else ""
        for role, price in children.items()
    )
    not_after_ns = clock.latest_at_bridge(order.not_after_ns)
    return Place(
        order=msgspec.structs.replace(order, not_after_ns=not_after_ns),
        stop_loss_id=stop_loss_id,
        take_profit_id=take_profit_id,
    )


def make_refusal(command: Command, text: str) -> Reject:
    """Return the reject of a command that was not sent. For a cancel or replace, its code leaves the order alive."""
    code = RejectCode.LINK_DOWN
    if isinstance(command, Cancel):
        code = RejectCode.CANCEL_REJECTED
    elif isinstance(command, Replace):
        code = RejectCode.REPLACE_REJECTED
    return Reject(
        code=code,
        text=text,
        client_order_id=command.client_order_id,
        platform=command.platform,
        account=command.account,
        replace_revision=command.revision if isinstance(command, Replace) else 0,
    )


def make_incomplete_snapshot(request: SnapshotRequest) -> Snapshot:
    """Return an empty, incomplete snapshot: it proves neither that something is there nor that it is not."""
    platform, account = request.platform, request.account
    return Snapshot(
        request_id=request.request_id,
        platform=platform,
        account=account,
        positions=Positions(platform=platform, account=account, rows=()),
        working_orders=WorkingOrders(platform=platform, account=account, rows=()),
        executions=Executions(platform=platform, account=account, rows=(), from_ns=request.executions_from_ns),
        complete=False,
    )


def check_snapshot(snapshot: Snapshot, platform: str, account: str) -> None:
    """Check that all parts are of this platform and account; others would be booked to the wrong account.

    Raises:
        FrameError: a part is not.
    """
    parts: list[Snapshot | Positions | WorkingOrders | Executions | Account | Fill] = [
        snapshot,
        snapshot.positions,
        snapshot.working_orders,
        snapshot.executions,
        *snapshot.executions.rows,
    ]
    if snapshot.funds is not None:
        parts.append(snapshot.funds)
    for part in parts:
        if (part.platform, part.account) != (platform, account):
            raise FrameError(
                f"a part of the snapshot was of {part.platform}|{part.account}, asked for was {platform}|{account}"
            )
