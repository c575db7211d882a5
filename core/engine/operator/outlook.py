"""What is the case where a command of the operator is not fulfilled yet, and what comes next: text, for people.

An operator who reads "not verified" has to decide whether to go to the platform. So each text says what is held or
works, why it is not closed or cancelled yet, and what happens without him. Nothing here changes the state.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct, field

from ....shm.durations import NS_PER_S
from ...messages import KillLevel, LegState, OrderRole, Protection, WorkingOrder, client_order_id, signal_key
from ..orders.exposure import PROTECTIVE, covered_lots
from ..state import OPENING, EngineState, LegRecord, OrderRecord, RouteRecord
from ..turn import Turn, leg_orders, live_orders, shut_until, signals_of_route

_MOST_NAMED: Final = 3
"""Orders, legs or symbols that one text names; the others are counted. A line of an answer has 512 characters."""
_MOST_COUNTED: Final = 200
_TEXT_CHARS: Final = 80
_WHY_CHARS: Final = 160
"""Of a text of the platform."""
_UNTIL_KNOWN: Final = "snapshots are requested until one shows it; else look at the platform and type `acknowledge`"
_ON_ITS_WAY_S: Final = 3
"""A closing order that has not traded for longer rests at the platform."""
_Item = TypeVar("_Item")
_NUMBERS: Final = re.compile(r"[+-]?\d+([.:-]\d+)*")


class Lacking(Struct, kw_only=True):
    """What a kill level still lacks on an account; empty = a snapshot shows that it holds."""

    bar: str = ""  # why nothing is sent for a symbol there
    unanswered: list[OrderRecord] = field(default_factory=list)  # orders whose answer is due
    orders: list[OrderRecord] = field(default_factory=list)  # orders of ours that should not work
    rows: list[WorkingOrder] = field(default_factory=list)  # orders with our id that the journal does not know
    external: list[WorkingOrder] = field(default_factory=list)  # orders of others that should not work
    held: dict[str, Decimal] = field(default_factory=dict)  # symbol -> lots that should not be held
    unconfirmed: bool = False  # no snapshot after the last step yet

    def __bool__(self) -> bool:
        found = self.bar or self.unanswered or self.orders or self.rows or self.external or self.held
        return bool(found or self.unconfirmed)


def describe_lacking(turn: Turn, name: str, route: RouteRecord, lacking: Lacking) -> str:
    """Say why a kill level does not hold on an account, and what comes next; empty when it holds."""
    if not lacking:
        return ""
    parts = [describe_link(turn, route)]
    if lacking.bar:
        parts.append(f"{lacking.bar}: nothing is sent there; see `nexus-gateway orders`")
    if lacking.unanswered:
        parts.append(f"{len(lacking.unanswered)} orders without an answer")
    # A stop that stands for what is held is named with it.
    others = [
        order
        for order in lacking.orders
        if order.role is not OrderRole.EXIT
        and not (order.role in PROTECTIVE and order.order.symbol in lacking.held and not order.cancel_wanted)
    ]
    parts += _few("orders", others, partial(describe_order, turn))
    closing = [order for order in lacking.orders if order.role is OrderRole.EXIT]
    if not lacking.held:
        parts += _few("closing orders", closing, partial(describe_order, turn))
    if lacking.rows:
        parts.append(f"{len(lacking.rows)} orders of ours still work that the journal does not know")
    if lacking.external:
        parts.append(_describe_external(turn, route, lacking.external))
    parts += _few("symbols", list(lacking.held.items()), lambda held: describe_held(turn, name, route, *held))
    return "; ".join(filter(None, parts)) or _describe_wait(turn, route)


def _few(what: str, items: list[_Item], describe: Callable[[_Item], str]) -> list[str]:
    more = len(items) - _MOST_NAMED
    return [describe(item) for item in items[:_MOST_NAMED]] + ([f"and {more} more {what}"] if more > 0 else [])


def is_news(text: str, before: str) -> bool:
    """Whether a text says another thing than the one before: other figures and times of the same thing are no news."""
    return _NUMBERS.sub("#", text) != _NUMBERS.sub("#", before)


def why_gone(state: EngineState, route: RouteRecord) -> str:
    """Say why an account that is not linked may never come back; empty when it is linked, or is expected to link."""
    if route.up:
        return ""
    expected = state.settings.expected_platforms
    if expected and route.platform not in expected:
        return f"{route.platform} is not in the configuration any more"
    others = [each.account for each in state.routes.values() if each.up and each.platform == route.platform]
    return f"it is not linked, if account {others[0]} of {route.platform} has taken its place" if others else ""


def _retire_command(route: RouteRecord) -> str:
    """The command that ends the account, to be typed."""
    account = f" --account {route.account}" if route.account else ""
    return f"`nexus-gateway account retire {route.platform}{account}`"


def describe_link(turn: Turn, route: RouteRecord) -> str:
    """Say why nothing is known of an account now; empty while its platform answers."""
    gone = why_gone(turn.state, route)
    if gone:
        return f"{gone}: close it at the platform itself, then {_retire_command(route)}"
    if route.severed and not route.up:
        return "its link is cut: look at the platform itself"
    if not route.up:
        return "its link is down: nothing can be sent, it goes on when the link is back; look at the platform itself"
    if route.overdue_since_ns:
        return f"no snapshot for {_seconds(turn, route.owes_since_ns)} s: what it holds is unknown"
    return ""


def _describe_wait(turn: Turn, route: RouteRecord) -> str:
    since_ns = route.owes_since_ns or route.request_sent_ns
    return f"waits for a snapshot of the platform, requested {_seconds(turn, since_ns)} s ago"


def describe_order(turn: Turn, order: OrderRecord) -> str:
    """Say that an order still works, and what became of its cancels."""
    what = f"{order.role.name.lower().replace('_', ' ')} {order.order.client_order_id}"
    lots = f"{order.leaves_qty:f} {order.order.symbol}"
    if order.state is LegState.UNKNOWN:
        return f"{what}: the outcome of {lots} is unknown, {_UNTIL_KNOWN}"
    text = f"{what}: {lots} still works"
    if not order.cancel_wanted:
        return text
    every = f"{turn.state.settings.ack_ms / 1000:g} s"
    if order.cancels_sent > 1:
        return f"{text}, its cancel was sent {order.cancels_sent} times and is sent again every {every}"
    return f"{text}, its cancel {'was sent' if order.cancels_sent else 'is sent when it can be'}"


def describe_unfinished(turn: Turn, name: str, route: RouteRecord) -> list[str]:
    """What goes on by itself on an account after `resume`: entries to be cancelled, and legs that are being closed."""
    found = [
        f"{describe_order(turn, order)}; it is cancelled further"
        for order in live_orders(turn.state, route)
        if order.role in OPENING and order.cancel_wanted
    ]
    found += [
        describe_order(turn, order)
        for order in live_orders(turn.state, route)
        if order.role is OrderRole.EXIT and (not order.signal_id or order.cancel_wanted)
    ]
    for signal in signals_of_route(turn.state, name):
        legs = [leg for leg in signal.legs if leg.route == name and leg.open and leg.closing]
        found += [describe_closing(turn, signal.signal.signal_id, leg) for leg in legs]
    shut = {
        symbol: position.session_change_ns
        for symbol, position in route.positions.items()
        if position.net and not position.session_open
    }
    return found + [f"{symbol}: {describe_shut(change_ns)}" for symbol, change_ns in shut.items()]


def describe_held(turn: Turn, name: str, route: RouteRecord, symbol: str, lots: Decimal) -> str:
    """Say why lots are still held, and when they are closed."""
    head = f"holds {lots:+f} {symbol}"
    position = route.positions.get(symbol)
    if position is not None and not position.session_open:
        stop = _stop_text(turn, name, route, symbol, lots)
        until = describe_shut(position.session_change_ns)
        return f"{head}: {until}; {stop}; it is closed when the market opens"
    legs = [
        (signal.signal.signal_id, leg)
        for signal in signals_of_route(turn.state, name)
        for leg in signal.legs
        if leg.route == name and leg.symbol == symbol and leg.open and leg.closing
    ]
    if legs:
        return f"{head}: {', '.join(_few('legs', legs, lambda each: describe_closing(turn, *each)))}"
    last = _last_of_account(turn, name, symbol)
    if last is None:
        return head
    if last.live:
        return f"{head}: {_describe_working(turn, [last])}"
    ended = "was refused" if last.state is LegState.REJECTED else f"has traded {last.cum_qty:f}"
    reason = f" ({last.text[:_TEXT_CHARS]})" if last.text else ""
    stop = _stop_text(turn, name, route, symbol, lots)
    return f"{head}: closing order {last.attempt + 1} {ended}{reason}, the next one is sent after a snapshot; {stop}"


def _last_of_account(turn: Turn, name: str, symbol: str) -> OrderRecord | None:
    """Return the newest closing order of the kill level for lots that no leg holds; None = none is known."""
    record = turn.state.kills.get(name)
    if record is None or not record.attempts:
        return None
    key = signal_key(f"kill/{record.requested_ns}/{name}")
    chars = turn.state.settings.client_order_id_chars
    for attempt in range(record.attempts - 1, max(record.attempts - _MOST_NAMED, 0) - 1, -1):
        order = turn.state.orders.get(client_order_id(key, 0, OrderRole.EXIT, attempt, chars))
        if order is not None and order.order.symbol == symbol:
            return order
    return None


def describe_verified(route: RouteRecord, level: KillLevel) -> str:
    """Say that a kill level holds as far as the platform can show it, and what is held all the same."""
    text, able = "verified", route.hello.capabilities
    if level >= KillLevel.CANCEL_ALL and able is not None and not able.lists_orders:
        text += ", but the platform lists no orders: look there whether one works"
    if level >= KillLevel.FLATTEN and able is not None and not able.lists_positions:
        text += ", but the platform lists no positions: look there whether one is left"
    held = [f"{position.net:+f} {symbol}" for symbol, position in route.positions.items() if position.net]
    if level is KillLevel.CANCEL_ALL and held:
        text += f"; {', '.join(held[:_MOST_NAMED])} held, its stops were cancelled as well"
    return text


def describe_shut(change_ns: int) -> str:
    """Say until when a market is shut; `change_ns`: its next opening, UTC ns, 0 = not known."""
    return f"market shut{shut_until(change_ns)} by the calendar"


def describe_closing(turn: Turn, signal_id: str, leg: LegRecord) -> str:
    """Say how far the closing of a leg is: what is left, what its closing orders have come to, and the next try."""
    parts = [f"{signal_id} is being closed: {abs(leg.open):f} {leg.symbol}"]
    orders = list(leg_orders(turn.state, leg))
    exits = [order for order in orders if order.role is OrderRole.EXIT]
    parts += _fruitless(leg, exits)
    route = turn.state.routes[leg.route]
    position = route.positions.get(leg.symbol)
    if any(order.live for order in exits):
        parts.append(_describe_working(turn, exits))
    elif position is not None and not position.session_open:
        parts.append(f"{describe_shut(position.session_change_ns)}, it is closed when the market opens")
    elif leg.retry_ns > turn.now_ns:
        parts.append(f"next try in {-((turn.now_ns - leg.retry_ns) // NS_PER_S)} s")
    elif leg.closing_waits:
        parts.append(leg.closing_waits[:_WHY_CHARS])
    if covered_lots(turn, leg) >= abs(leg.open):
        parts.append("its stop stands" if route.up else "its stop stood when its link was lost")
    elif leg.unprotected_since_ns:
        parts.append(f"without a stop for {_seconds(turn, leg.unprotected_since_ns)} s")
    return ", ".join(parts)


def _describe_working(turn: Turn, exits: list[OrderRecord]) -> str:
    """Say how closing orders stand that may still trade."""
    live = [order for order in exits if order.live]
    if any(order.state is LegState.UNKNOWN for order in live):
        return f"the outcome of its closing order is unknown, {_UNTIL_KNOWN}"
    waited_s = _seconds(turn, max(order.last_news_ns for order in live))
    if waited_s < _ON_ITS_WAY_S or any(order.state is LegState.SENT for order in live):
        return "its closing order is on its way"
    cancelled = ", its cancel was sent" if any(order.cancels_sent for order in live) else ""
    return f"its closing order works for {waited_s} s and has not traded{cancelled}"


def _fruitless(leg: LegRecord, exits: list[OrderRecord]) -> list[str]:
    """Say how often closing orders have traded nothing, and what the platform said of the last one."""
    ended = [order for order in exits if not order.live]
    count = 0
    for order in reversed(ended[-_MOST_COUNTED:]):
        if order.cum_qty:
            break
        count += 1
    count = max(count, leg.fruitless_exits)
    if not count or not ended:
        return []
    last = ended[-1]
    reason = f" ({last.text[:_TEXT_CHARS]})" if last.text else ""
    times = "once" if count == 1 else f"{count} times"
    refused = last.state is LegState.REJECTED
    return [f"closing order refused {times}{reason}" if refused else f"closing order sent {times} in vain{reason}"]


def _describe_external(turn: Turn, route: RouteRecord, rows: list[WorkingOrder]) -> str:
    kept = [row for row in rows if stays_in_shut_market(route, row)]
    parts = []
    if len(rows) > len(kept):
        every = f"{turn.state.settings.ack_ms / 1000:g} s"
        parts.append(f"{len(rows) - len(kept)} external orders still work, cancelled again every {every}")
    if kept:
        symbols = ", ".join(dict.fromkeys(row.symbol for row in kept))
        parts.append(f"{len(kept)} external orders that protect {symbols} stay while the market is shut")
    return "; ".join(parts)


def stays_in_shut_market(route: RouteRecord, row: WorkingOrder) -> bool:
    """Whether an order that is none of ours reduces a position which cannot be closed now, since its market is shut.

    Cancelled at once, it would leave the position without its stop until the market opens: over the opening gap.
    """
    position = route.positions.get(row.symbol)
    return position is not None and not position.session_open and position.net * row.side.sign < 0


def _stop_text(turn: Turn, name: str, route: RouteRecord, symbol: str, lots: Decimal) -> str:
    """Say how much of what is held on an account working stops cover."""
    covered = sum(
        (
            order.leaves_qty
            for order in live_orders(turn.state, route)
            if order.role is OrderRole.STOP_LOSS
            and order.order.symbol == symbol
            and order.order.side.sign * lots < 0
            and order.state in (LegState.WORKING, LegState.PARTIALLY_FILLED)
            and not order.cancel_wanted
        ),
        Decimal(0),
    )
    for signal_id in route.holding_signals:
        for leg in turn.state.signals[signal_id].legs:
            listed = any(order.role is OrderRole.STOP_LOSS for order in leg_orders(turn.state, leg))
            if (leg.route, leg.symbol) == (name, symbol) and leg.protection is Protection.PLATFORM and not listed:
                covered += abs(leg.open)  # the platform keeps it with the position, and does not list it
    rows = [row for row in route.external_orders if row.symbol == symbol and row.stop_price is not None]
    covered += sum((row.quantity - row.filled for row in rows if lots * row.side.sign < 0), Decimal(0))
    if not covered:
        return "NO stop of it works"
    if not route.up:
        return f"stops for {min(covered, abs(lots)):f} of it worked when its link was lost"
    return "its stop stays" if covered >= abs(lots) else f"its stops cover {covered:f} of {abs(lots):f}, and stay"


def _seconds(turn: Turn, since_ns: int) -> int:
    """How long ago an instant of the engine's time was: no step of the wall clock is in it."""
    return max(turn.now_ns - since_ns, 0) // NS_PER_S if since_ns else 0
