"""The broker's server: it takes requests, lets orders meet the market, and plays the scenarios that tests asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.mt5_terminal import checks
from tests.mt5_terminal.clock import ServerClock
from tests.mt5_terminal.ledger import BUY, SELL, Ledger, side_of
from tests.mt5_terminal.market import Symbol
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.presets import MARGIN_MODES, PRESETS, make_symbol
from tests.mt5_terminal.records import Record
from tests.mt5_terminal.scenarios import LISTED_LATE, RESTING, Plan, Script

Later = Callable[[int, Callable[[], None]], None]
"""Runs a function so many milliseconds from now."""


class Broker:
    """Account, market and orders. Knows nothing of terminals and clients.

    Attributes:
        login_state: its answer to a login: "ready", "refused", "waiting".
        victim_pid: who dies in the death scenarios; 0 = the process that called.
        requests: every trade request that was answered.
    """

    def __init__(self, options: dict[str, Any], later: Later) -> None:
        preset = PRESETS[options["preset"]]
        self.later = later
        self.clock = ServerClock(preset.zone)
        self.symbols: dict[str, Symbol] = {
            fields["name"]: make_symbol(fields["name"] in preset.watched, fields) for fields in preset.symbols
        }
        account = Record("AccountInfo", **preset.account)
        for name in ("login", "server", "company", "balance"):
            if options.get(name) is not None:
                setattr(account, name, options[name])
        if options.get("margin_mode") is not None:
            account.margin_mode = MARGIN_MODES[options["margin_mode"]]
        self.ledger = Ledger(account, self.clock, self.symbols)
        deposit, account.balance = account.balance, 0.0
        self.ledger.add_balance(deposit, "deposit")
        self.script = Script(bool(options.get("rehearse", False)))
        self.flag_bits = preset.flag_bits
        self.login_state = "ready"
        self.victim_pid = int(options.get("victim_pid", 0))
        self.requests: list[dict[str, Any]] = []
        self.exchange_delay_ms = int(options.get("exchange_delay_ms", 30))
        self._siblings: list[tuple[Record, int]] = []
        """Positions closed by one of their stops whose other stop still stands, and until when (server time)."""

    # The market.

    def push(self, symbol: Symbol, rows: np.ndarray) -> None:
        """New ticks: stored, and every order and stop gets its chance at each of them."""
        symbol.ticks.append(rows)
        if not self._is_anybody_waiting(symbol.name):
            rows = rows[-1:]
        for row in rows:
            symbol.show(row)
            self.ledger.mark(symbol)
            if symbol.is_open:
                self._match(symbol)

    def expire_orders(self) -> None:
        """Orders whose time is over; to be called now and then."""
        now_s = self.clock.now_ms() // 1000
        for order in list(self.ledger.orders.values()):
            limit_s = order.time_expiration
            if order.type_time == mt5.ORDER_TIME_DAY:
                limit_s = (order.time_setup // 86_400 + 1) * 86_400
            if order.type_time != mt5.ORDER_TIME_GTC and limit_s and now_s >= limit_s:
                self.ledger.finish(order, mt5.ORDER_STATE_EXPIRED)

    # Orders.

    def place(self, request: Record, plan: Plan, reason: int = mt5.ORDER_REASON_EXPERT) -> Record:
        """Take a checked order in; market orders under MARKET execution have traded when this returns."""
        is_market = request.action == mt5.TRADE_ACTION_DEAL
        order = self.ledger.new_order(
            type=request.type,
            symbol=request.symbol,
            volume_initial=round(request.volume, 8),
            price_open=0.0 if is_market else request.price,
            price_stoplimit=request.stoplimit,
            sl=request.sl,
            tp=request.tp,
            type_time=request.type_time,
            type_filling=request.type_filling,
            time_expiration=request.expiration,
            magic=request.magic,
            comment=plan.terms.get("text", request.comment),
            position_id=request.position,
            reason=reason,
        )
        order.plan, order.fired, order.parts = plan, False, self._split(order, plan)
        self._wait(order, self._first_delay_ms(order, plan))
        if plan.name == "unsolicited_cancel":
            self.later(plan.after_ms, lambda: self._end_if_alive(order, mt5.ORDER_STATE_CANCELED))
        elif plan.name == "rejected_later":
            self.later(plan.after_ms, lambda: self._end_if_alive(order, mt5.ORDER_STATE_REJECTED))
        elif plan.name == "listed_late":
            order.listed_ms = self.clock.now_ms() + plan.after_ms
        elif plan.name == "ends_out_of_sight":
            self.later(plan.after_ms, lambda: self._end_out_of_sight(order, by_ticket=plan.terms["by_ticket"]))
        self.advance(order)
        return order

    def cancel(self, order: Record) -> int:
        """A REMOVE request; its retcode."""
        if order.plan.name == "cancel_rejected":
            return mt5.TRADE_RETCODE_FROZEN
        if order.plan.name == "fill_during_cancel":
            self._fill(order, order.volume_current, self._price_now(order), 0)
            return mt5.TRADE_RETCODE_INVALID
        self.ledger.finish(order, mt5.ORDER_STATE_CANCELED)
        return mt5.TRADE_RETCODE_DONE

    def modify(self, order: Record, request: Record) -> int:
        """A MODIFY request whose terms are in order; its retcode."""
        if order.plan.name == "fill_during_replace":
            self._fill(order, order.volume_current, self._price_now(order), 0)
            return mt5.TRADE_RETCODE_INVALID
        order.price_open, order.sl, order.tp = request.price, request.sl, request.tp
        order.price_stoplimit = request.stoplimit
        order.type_time, order.time_expiration = request.type_time, request.expiration
        self.advance(order)
        return mt5.TRADE_RETCODE_DONE

    def advance(self, order: Record) -> None:
        """Fill what is due and what the market allows."""
        symbol = self.symbols[order.symbol]
        while order.parts and order.ticket in self.ledger.orders and order.ready and symbol.is_open:
            price = self._tradable_price(order, symbol)
            if price is None:
                return
            lots, pause_ms, listed_after_ms = order.parts.pop(0)
            self._fill(order, lots, price, listed_after_ms)
            if order.parts:
                self._wait(order, pause_ms)

    def close(self, held: Record, reason: int, comment: str = "", volume: float = 0.0) -> Record | None:
        """Close a position at the market; None when there is no price."""
        symbol = self.symbols[held.symbol]
        bid, ask = symbol.quote()
        price = bid if held.type == BUY else ask
        if not price:
            return None
        lots = volume or held.volume
        order = self.ledger.new_order(
            type=1 - held.type, symbol=held.symbol, volume_initial=lots, position_id=held.ticket, reason=reason
        )
        order.plan, order.parts, order.fired = Plan(), [], True
        order.magic = held.magic if reason >= mt5.ORDER_REASON_SL else 0
        order.comment = comment
        self._fill(order, lots, price, 0)
        return order

    # Inside.

    def _split(self, order: Record, plan: Plan) -> list[tuple[float, int, int]]:
        """(lots, pause before the next part, listed so much later) of each execution to come."""
        whole, info = order.volume_initial, self.symbols[order.symbol].info
        half = round(max(1, round(whole / info.volume_step) // 2) * info.volume_step, 8)
        rest = round(whole - half, 8)
        if plan.name in RESTING:
            return []
        if plan.name in ("partial_then_fill", "out_of_order") and rest > 0:
            pause_ms = plan.after_ms if plan.name == "partial_then_fill" else 0
            late_ms = plan.after_ms if plan.name == "out_of_order" else 0
            return [(half, pause_ms, late_ms), (rest, 0, 0)]
        if plan.name in ("partial_then_cancel", "ends_partial") and rest > 0:
            return [(half, 0, 0)]
        if plan.name == "overfill":
            return [(whole, 0, 0), (info.volume_step, 0, 0)]
        return [(whole, 0, plan.after_ms if plan.name in LISTED_LATE else 0)]

    def _first_delay_ms(self, order: Record, plan: Plan) -> int:
        if plan.name == "placed":
            return plan.after_ms
        if plan.name == "fill_before_ack":
            return 0
        return self.exchange_delay_ms if self.symbols[order.symbol].is_exchange else 0

    def _wait(self, order: Record, delay_ms: int) -> None:
        order.ready = delay_ms == 0
        if delay_ms:

            def go_on() -> None:
                order.ready = True
                self.advance(order)

            self.later(delay_ms, go_on)

    def _tradable_price(self, order: Record, symbol: Symbol) -> float | None:
        """The price at which an order trades now, None when it does not."""
        bid, ask = symbol.quote()
        side = side_of(order.type)
        price = ask if side == BUY else bid
        if not np.isfinite(price) or price <= 0 or (bid > 0 and ask > 0 and bid > ask):
            return None
        if order.type in (mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL):
            slip = float(order.plan.terms.get("ticks", 0)) * symbol.info.trade_tick_size
            return price + slip if side == BUY else price - slip
        if order.type in (*checks.STOPS, *checks.STOP_LIMITS) and not order.fired:
            order.fired = price >= order.price_open if side == BUY else price <= order.price_open
            if not order.fired:
                return None
        if order.type in checks.STOPS:
            return price
        limit = order.price_stoplimit if order.type in checks.STOP_LIMITS else order.price_open
        is_reached = price <= limit if side == BUY else price >= limit
        return price if is_reached else None

    def _price_now(self, order: Record) -> float:
        bid, ask = self.symbols[order.symbol].quote()
        return order.price_open or (ask if side_of(order.type) == BUY else bid)

    def _fill(self, order: Record, lots: float, price: float, listed_after_ms: int) -> None:
        ledger, plan = self.ledger, order.plan
        if ledger.is_hedging and order.position_id not in (0, order.ticket, *ledger.positions):
            ledger.finish(order, mt5.ORDER_STATE_REJECTED)  # what it was to close is closed already
            return
        deal = ledger.trade(order, lots, price, listed_after_ms)
        order.price_current = price
        order.volume_current = max(0.0, round(order.volume_current - lots, 8))
        if plan.name == "duplicate_execution":
            deal.copies = 2
        if order.volume_current == 0 and not order.parts:
            ledger.finish(order, mt5.ORDER_STATE_FILLED, plan.after_ms if plan.name in LISTED_LATE else 0)
            self._follow_up(order, deal)
        else:
            order.state = mt5.ORDER_STATE_PARTIAL
            if plan.name == "partial_then_cancel":
                self.later(plan.after_ms, lambda: self._end_if_alive(order, mt5.ORDER_STATE_CANCELED))
            elif plan.name == "ends_partial":
                self.later(plan.after_ms, lambda: self._end_if_alive(order, mt5.ORDER_STATE_PARTIAL))

    def _follow_up(self, order: Record, deal: Record) -> None:
        """What a scenario does after the order has filled."""
        plan = order.plan
        held = next((each for each in self.ledger.positions.values() if each.identifier == deal.position_id), None)
        if plan.name == "bust":
            self.later(plan.after_ms, lambda: self.ledger.bust(deal))
        elif plan.name == "correction":
            tick = self.symbols[order.symbol].info.trade_tick_size
            self.later(plan.after_ms, lambda: setattr(deal, "price", deal.price + tick))
        elif plan.name == "late_sibling" and held is not None:
            held.sibling_ms = plan.after_ms
        elif plan.name in ("manual_trade", "manual_close", "manual_order"):
            # Not in the same breath: the hand is never faster than the trade.
            self.later(20, lambda: self._move_hand(plan.name, order, deal))

    def _move_hand(self, name: str, order: Record, deal: Record) -> None:
        lots = self.symbols[order.symbol].info.volume_min
        if name == "manual_trade":
            self.hand_trade(order.symbol, side_of(order.type), max(lots, 1.0))
        elif name == "manual_order":
            price = self.symbols[order.symbol].rounded(deal.price * 0.9)
            self.hand_order(order.symbol, mt5.ORDER_TYPE_BUY_LIMIT, max(lots, 1.0), price)
        else:
            for held in [each for each in self.ledger.positions.values() if each.identifier == deal.position_id]:
                self.close(held, mt5.ORDER_REASON_CLIENT)

    def hand_trade(self, symbol: str, side: int, volume: float) -> Record:
        """A market order by hand."""
        request = Record("TradeRequest", action=mt5.TRADE_ACTION_DEAL, symbol=symbol, type=side, volume=volume)
        return self.place(request, Plan(), mt5.ORDER_REASON_CLIENT)

    def hand_order(self, symbol: str, order_type: int, volume: float, price: float) -> Record:
        """A pending order by hand."""
        request = Record("TradeRequest", action=mt5.TRADE_ACTION_PENDING, symbol=symbol, type=order_type)
        request.volume, request.price, request.type_filling = volume, price, mt5.ORDER_FILLING_RETURN
        return self.place(request, Plan(), mt5.ORDER_REASON_CLIENT)

    def _end_if_alive(self, order: Record, state: int) -> None:
        if order.ticket in self.ledger.orders:
            self.ledger.finish(order, state)

    def _end_out_of_sight(self, order: Record, *, by_ticket: bool) -> None:
        """Cancelled, as if that were so long ago that no range which is asked for shows it."""
        self._end_if_alive(order, mt5.ORDER_STATE_CANCELED)
        order.time_done -= 40 * 86_400
        if not by_ticket:
            order.listed_ms = self.clock.now_ms() + 86_400_000

    def _is_anybody_waiting(self, name: str) -> bool:
        ledger = self.ledger
        return (
            any(order.symbol == name for order in ledger.orders.values())
            or any(held.symbol == name and (held.sl or held.tp) for held in ledger.positions.values())
            or any(held.symbol == name for held, _ in self._siblings)
        )

    def _match(self, symbol: Symbol) -> None:
        for order in [each for each in self.ledger.orders.values() if each.symbol == symbol.name]:
            self.advance(order)
        for held in [each for each in self.ledger.positions.values() if each.symbol == symbol.name]:
            self._strike(held, symbol)
        for pair in [each for each in self._siblings if each[0].symbol == symbol.name]:
            self._strike_sibling(pair, symbol)

    def _strike(self, held: Record, symbol: Symbol) -> None:
        """Stop loss and take profit of a position."""
        is_loss, is_target = _struck(held, symbol)
        if not (is_loss or is_target):
            return
        reason = mt5.ORDER_REASON_SL if is_loss else mt5.ORDER_REASON_TP
        level, word = (held.sl, "sl") if is_loss else (held.tp, "tp")
        if held.sibling_ms and held.sl and held.tp:
            left = Record("TradePosition", **held.as_dict())
            left.sl, left.tp = (0.0, held.tp) if is_loss else (held.sl, 0.0)
            self._siblings.append((left, self.clock.now_ms() + held.sibling_ms))
        self.close(held, reason, f"[{word} {level:.{symbol.info.digits}f}]")

    def _strike_sibling(self, pair: tuple[Record, int], symbol: Symbol) -> None:
        left, until_ms = pair
        if self.clock.now_ms() > until_ms:
            self._siblings.remove(pair)
            return
        is_loss, is_target = _struck(left, symbol)
        if is_loss or is_target:
            self._siblings.remove(pair)
            order = self.hand_trade(left.symbol, SELL if left.type == BUY else BUY, left.volume)
            order.reason = mt5.ORDER_REASON_SL if is_loss else mt5.ORDER_REASON_TP


def _struck(held: Record, symbol: Symbol) -> tuple[bool, bool]:
    """Stop loss reached, take profit reached. A long position closes at the bid, a short one at the ask."""
    bid, ask = symbol.quote()
    if not symbol.has_sane_quote:
        return False, False
    if held.type == BUY:
        return bool(held.sl and bid <= held.sl), bool(held.tp and bid >= held.tp)
    return bool(held.sl and ask >= held.sl), bool(held.tp and ask <= held.tp)
