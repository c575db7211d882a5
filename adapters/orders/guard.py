"""Checks of a command before the platform sees it. Pure.

The reject code decides what the gateway does with the order. A rejected cancel or replace leaves its order alive, so it
must be answered with `cancel_rejected`, `replace_rejected` or `unsupported_replace`: the gateway takes any other code
as the end of the order, while it still works at the platform.
"""

from __future__ import annotations

from typing import Final

from ...core.messages import (
    Cancel,
    Capabilities,
    Flatten,
    KillLevel,
    Order,
    OrderRole,
    Reject,
    RejectCode,
    Replace,
    find_client_order_id,
)
from ...shm.durations import NS_PER_MS
from ..base import Command, PlatformAccount

_REDUCING: Final = (OrderRole.EXIT, OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)


def refuse_command(
    command: Command,
    platform: str,
    account: PlatformAccount | None,
    capabilities: Capabilities,
    kill_level: KillLevel,
    kill_text: str,
    now_ns: int,
) -> tuple[RejectCode, str]:
    """Return code and text of the reject; code NONE when the command may go to the platform.

    Args:
        account: of the open session; None while the platform is away.
        kill_level: of the kill file, for this platform (`core/kill_file.py`). `kill_text`: the refusal at that level.
        now_ns: UTC.
    """
    if isinstance(command, Order):
        return _refuse_order(command, platform, account, capabilities, kill_level, kill_text, now_ns)
    if isinstance(command, Flatten):
        return _refuse_flatten(command, platform, account, capabilities, now_ns)
    text = _refuse_route(command, platform, account)[1]
    if isinstance(command, Cancel):
        # A cancel removes risk: it passes at every kill level, and whatever its age.
        return (RejectCode.CANCEL_REJECTED, text) if text else (RejectCode.NONE, "")
    # A replace below SEVER is judged by the gateway, which knows whether it adds risk.
    if kill_level >= KillLevel.SEVER:
        text = "the kill file says sever: only cancels pass"
    if text:
        return RejectCode.REPLACE_REJECTED, text
    if not capabilities.replace:
        return RejectCode.UNSUPPORTED_REPLACE, f"{platform} cannot change a working order; cancel it"
    return RejectCode.NONE, ""


def make_reject(command: Command, platform: str, account: str, code: RejectCode, text: str) -> Reject:
    """Return the reject that answers this command. That of a flatten names no order."""
    return Reject(
        code=code,
        text=text,
        client_order_id="" if isinstance(command, Flatten) else command.client_order_id,
        platform=platform,
        account=account,
        replace_revision=command.revision if isinstance(command, Replace) else 0,
    )


def _refuse_order(
    order: Order,
    platform: str,
    account: PlatformAccount | None,
    capabilities: Capabilities,
    kill_level: KillLevel,
    kill_text: str,
    now_ns: int,
) -> tuple[RejectCode, str]:
    code, text = _refuse_route(order, platform, account)
    if account is None or text:
        return code, text
    # The kill file is checked here as well as in the gateway: it must hold even when the gateway hangs or is wrong.
    # Orders that reduce pass below SEVER, or the flatten of a kill could not close anything.
    if kill_level >= KillLevel.SEVER or (kill_level >= KillLevel.NO_NEW and not _reduces(order)):
        return RejectCode.KILL_SWITCH, kill_text
    code, text = _refuse_late(order, now_ns)
    if text:
        return code, text
    code, text = _refuse_unsupported(order, platform, capabilities)
    if text:
        return code, text
    return _refuse_identity(order, account, now_ns)


def _refuse_flatten(
    flatten: Flatten, platform: str, account: PlatformAccount | None, capabilities: Capabilities, now_ns: int
) -> tuple[RejectCode, str]:
    """Check a flatten. It only closes: no kill level holds it back, nor a contract or symbol."""
    code, text = _refuse_route(flatten, platform, account)
    if not text and not capabilities.flatten:
        code, text = RejectCode.UNSUPPORTED_TYPE, f"{platform} has no flatten of its own; close by orders, or there"
    return (code, text) if text else _refuse_late(flatten, now_ns)


def _refuse_late(command: Order | Flatten, now_ns: int) -> tuple[RejectCode, str]:
    # It may have waited in a queue while the market moved: after this time it must not trade any more.
    if not command.not_after_ns or now_ns <= command.not_after_ns:
        return RejectCode.NONE, ""
    late_ms = (now_ns - command.not_after_ns) // NS_PER_MS
    kind = "flatten" if isinstance(command, Flatten) else "order"
    return RejectCode.TOO_LATE_TO_SEND, f"the {kind} came {late_ms} ms after the time it had to be sent by"


def _refuse_route(command: Command, platform: str, account: PlatformAccount | None) -> tuple[RejectCode, str]:
    if account is None:
        return RejectCode.LINK_DOWN, f"{platform} is not connected"
    if (command.platform, command.account) != (platform, account.name):
        return (
            RejectCode.PLATFORM_UNKNOWN,
            f"command was for {command.platform}|{command.account}, this adapter trades {platform}|{account.name}",
        )
    return RejectCode.NONE, ""


def _reduces(order: Order) -> bool:
    """Whether an order can only reduce: by its flag, its ticket, or the role in its client order id.

    The role is needed for platforms without reduce-only orders: positions must stay closable there.
    """
    parts = find_client_order_id(order.client_order_id)
    return order.reduce_only or bool(order.close_ticket) or (parts is not None and parts.role in _REDUCING)


def _refuse_unsupported(order: Order, platform: str, capabilities: Capabilities) -> tuple[RejectCode, str]:
    if order.order_type not in capabilities.order_types:
        return RejectCode.UNSUPPORTED_TYPE, f"{platform} has no {order.order_type} orders"
    if order.time_in_force not in capabilities.times_in_force:
        return RejectCode.UNSUPPORTED_TIF, f"{platform} has no time in force {order.time_in_force}"
    if (order.stop_loss is not None or order.take_profit is not None) and not capabilities.brackets:
        return RejectCode.UNSUPPORTED_BRACKET, f"{platform} keeps no stop loss or take profit with an order"
    if order.oco_group and not capabilities.oco:
        return RejectCode.UNSUPPORTED_BRACKET, f"{platform} does not cancel one order for another"
    if order.reduce_only and not capabilities.reduce_only:
        return RejectCode.UNSUPPORTED_TYPE, f"{platform} has no reduce-only orders"
    if order.close_ticket and not capabilities.close_by_ticket:
        return RejectCode.UNSUPPORTED_TYPE, f"{platform} has no position tickets"
    return RejectCode.NONE, ""


def _refuse_identity(order: Order, account: PlatformAccount, now_ns: int) -> tuple[RejectCode, str]:
    for instrument in account.instruments:
        if instrument.symbol == order.symbol:
            # The gateway and the platform must mean the same contract month: after a roll on one side only, the order
            # would trade another instrument than the one that was judged.
            if order.contract and instrument.contract and order.contract != instrument.contract:
                text = f"{order.symbol}: contract was {order.contract!r}, the platform trades {instrument.contract!r}"
                return RejectCode.IDENTITY_MISMATCH, text
            if 0 < instrument.expiry_ns <= now_ns:
                return (
                    RejectCode.CONTRACT_EXPIRED,
                    f"{instrument.contract or order.symbol} has traded for the last time",
                )
            # A symbol that is named as its contract is the one before or after the front contract.
            if instrument.symbol == instrument.contract and not _reduces(order):
                text = f"{order.symbol} is not the contract in front: what is open there can be closed, nothing opens"
                return RejectCode.CONTRACT_EXPIRED, text
            return RejectCode.NONE, ""
    return RejectCode.IDENTITY_MISMATCH, f"symbol was {order.symbol}, which this session does not trade"
