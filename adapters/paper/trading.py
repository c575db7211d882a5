"""The matching engine of the paper exchange: live orders trade against quotes.

Other modules decide whether an order is accepted (`entry`), what follows from a trade (`aftermath`) and when a report
is delivered (`timeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from ...core.messages import AccountMode, Fill, Instrument, LegState, Side, TimeInForce
from ...shm.durations import NS_PER_MS
from .book import ZERO, PaperBook, PaperExecution, PaperOrder
from .matching import Quote, floor_to_step, is_triggered, trade_price
from .reports import state_while_live
from .scenarios import SECOND_REPORT_MS
from .settings import PaperSettings
from .timeline import Timeline

_KEEP_ENDED: Final = 20_000


class TradingFloor:
    """Live orders by symbol, and the newest quotes.

    Attributes:
        after_trade: called with order, execution and time after each trade was booked and reported.
    """

    def __init__(
        self, timeline: Timeline, book: PaperBook, settings: PaperSettings, instruments: Mapping[str, Instrument]
    ) -> None:
        self.after_trade: Callable[[PaperOrder, PaperExecution, int], None] = lambda order, execution, now_ns: None
        self._timeline = timeline
        self._book = book
        self._settings = settings
        self._mode = settings.account_mode(timeline.platform)
        self._currency = settings.account_currency(timeline.platform)
        self._instruments = instruments
        self._quotes: dict[str, Quote] = {}
        self._live: dict[str, dict[str, PaperOrder]] = {}

    def add_live(self, order: PaperOrder) -> None:
        """Add a live order to the lists, without matching it; a GTD order expires at its time."""
        self._live.setdefault(order.symbol, {})[order.platform_order_id] = order
        if order.time_in_force is TimeInForce.GTD:
            self._timeline.schedule(
                order.good_till_ns, lambda at_ns: self.end(order, LegState.EXPIRED, at_ns), by_wall=True
            )

    def match_new(self, order: PaperOrder, now_ns: int) -> None:
        """Match a new order against the market; IOC and FOK orders end at once, filled or not."""
        self.add_live(order)
        if order.time_in_force is TimeInForce.FOK and not self._can_fill_whole(order):
            self.end(order, LegState.CANCELLED, now_ns, "fill or kill: not all lots could trade")
            return
        self.try_trade(order, now_ns)
        if order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self.end(order, LegState.CANCELLED, now_ns, "immediate or cancel: the rest could not trade")

    def set_quote(self, symbol: str, quote: Quote | None, now_ns: int) -> None:
        """Set a symbol's quote (None = no price) and match its live orders against it, oldest first."""
        if quote is None:
            self._quotes.pop(symbol, None)
            return
        self._quotes[symbol] = quote
        for order in self.live_orders(symbol):
            self.try_trade(order, now_ns)

    def rename_symbols(self, renamed: Mapping[str, str]) -> None:
        """Follow a roll: sort the live orders by their new symbols; the former quotes are the former contracts'."""
        self._live = {}
        for order in self._book.orders.values():
            if order.live:
                self._live.setdefault(order.symbol, {})[order.platform_order_id] = order
        for symbol, contract in renamed.items():
            quote = self._quotes.pop(symbol, None)
            if quote is not None:
                self._quotes[contract] = quote

    def live_orders(self, symbol: str) -> list[PaperOrder]:
        """The live orders of a symbol, oldest first; a copy."""
        return list(self._live.get(symbol, {}).values())

    def symbols_with_orders(self) -> set[str]:
        """Symbols with live orders."""
        return {symbol for symbol, orders in self._live.items() if orders}

    def closing_price(self, symbol: str, signed_lots: Decimal) -> Decimal | None:
        """Price at which these lots would be closed now; None without a quote."""
        quote = self._quotes.get(symbol)
        return None if quote is None else quote.price(Side.SELL if signed_lots > 0 else Side.BUY)

    def tick_size(self, symbol: str) -> Decimal:
        """Smallest price step."""
        return self._instruments[symbol].tick_size or Decimal("0.01")

    def lot_step(self, symbol: str) -> Decimal:
        """Smallest step of a quantity."""
        return self._instruments[symbol].lot_step or Decimal(1)

    def point_value(self, symbol: str) -> Decimal | None:
        """Money of the account per 1.0 of price and lot; None when the instrument is in another currency."""
        instrument = self._instruments.get(symbol)
        if instrument is None or instrument.currency != self._currency:
            return None
        return instrument.point_value

    def try_trade(self, order: PaperOrder, now_ns: int) -> None:
        """Trade as many lots of the order as the newest quote allows."""
        quote = self._quotes.get(order.symbol)
        plan = order.plan
        if quote is None or not order.live or plan.rests or now_ns < order.fill_from_ns:
            return
        if not is_triggered(order, quote):
            return
        # Triggered for good: a stop whose trade fails on this quote (a limit too far, no size) stays a live order.
        order.triggered = True
        price = trade_price(order, quote, self.tick_size(order.symbol) * self._settings.slippage_ticks)
        if price is None:
            order.resting = True
            return
        if order.close_ticket or order.reduce_only:
            held = self._reducible(order)
            if not held:
                # Its position is closed; the rest of the order would open the opposite position.
                self.end(order, LegState.CANCELLED, now_ns, "nothing left to reduce")
                return
            most = min(order.remaining, held)
        else:
            most = order.remaining
        size = quote.size(order.side) if self._settings.fill_by_quoted_size else None
        lots = most if size is None else min(most, size)
        if lots <= 0:
            return
        late_ms = 0
        # The scenario's first part: half the lots now, the rest from `fill_from_ns` on. Reported late, it is overtaken
        # by the second part (`second_part_first`).
        if plan.in_two_parts and not order.filled:
            step = self.lot_step(order.symbol)
            lots = min(lots, max(floor_to_step(order.quantity / 2, step), step))
            late_ms = SECOND_REPORT_MS if plan.second_part_first else 0
            order.fill_from_ns = now_ns + plan.second_part_after_ms * NS_PER_MS
            self._timeline.schedule(order.fill_from_ns, lambda at_ns: self.try_trade(order, at_ns))
        # Before the overfill: those lots exist nowhere in the market.
        quote.use(order.side, lots)
        if order.filled + lots >= order.quantity:
            lots += plan.overfill_lots
        self._execute(order, lots, price, now_ns, late_ms)

    def trade_in_full(self, order: PaperOrder, now_ns: int) -> None:
        """Fill the rest of the order at its own price, or at the market's if it has none."""
        quote = self._quotes.get(order.symbol)
        market = None if quote is None else quote.price(order.side)
        price = next((each for each in (order.limit_price, order.stop_price, market) if each is not None), None)
        if order.live and price is not None:
            self._execute(order, order.remaining, price, now_ns)

    def end(self, order: PaperOrder, state: LegState, now_ns: int, text: str = "") -> None:
        """End an order and report it; does nothing when it has ended already."""
        if not order.live:
            return
        order.state = state
        self._retire(order, now_ns)
        self._timeline.report_order(order, now_ns, text=text)

    def expire_day_orders(self, now_ns: int) -> None:
        """Expire all day orders."""
        for symbol in list(self._live):
            for order in self.live_orders(symbol):
                if order.time_in_force is TimeInForce.DAY:
                    self.end(order, LegState.EXPIRED, now_ns, "end of the trading day")

    def _can_fill_whole(self, order: PaperOrder) -> bool:
        quote = self._quotes.get(order.symbol)
        if quote is None or not is_triggered(order, quote) or trade_price(order, quote, ZERO) is None:
            return False
        if (order.close_ticket or order.reduce_only) and self._reducible(order) < order.quantity:
            return False
        size = quote.size(order.side) if self._settings.fill_by_quoted_size else None
        return (size is None or size >= order.quantity) and not order.plan.in_two_parts

    def _reducible(self, order: PaperOrder) -> Decimal:
        if order.close_ticket:
            position = self._book.positions.get(order.close_ticket)
            held = position.quantity if position is not None else ZERO
        else:
            held = self._book.net(order.symbol)
        return max(-held * order.side.sign, ZERO)

    def _execute(self, order: PaperOrder, lots: Decimal, price: Decimal, now_ns: int, late_ms: int = 0) -> None:
        """Book a trade, report it, then apply its consequences."""
        if self._mode is AccountMode.HEDGING:
            order.ticket = order.close_ticket or order.ticket or self._book.next_id("T")
        fee = self._settings.commission * lots
        fill = Fill(
            platform=self._timeline.platform,
            account=self._timeline.account,
            exec_id=self._book.next_id("E"),
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            quantity=lots,
            price=price,
            ts_event_ns=now_ns,
            platform_order_id=order.platform_order_id,
            contract=order.contract,
            position_ticket=order.ticket,
            fee=fee,
            fee_currency=self._currency,
        )
        realized = self._book.book_trade(order.symbol, order.ticket, order.contract, lots * order.side.sign, price)
        self._book.add_money(realized, self.point_value(order.symbol), fee)
        execution = PaperExecution(fill=fill, platform_order_id=order.platform_order_id)
        self._book.add_execution(execution)
        order.filled += lots
        order.cost += lots * price
        if order.filled >= order.quantity:
            order.state = LegState.FILLED
            self._retire(order, now_ns)
        else:
            order.state = state_while_live(order)
            self._book.touch_order(order)
        plan = order.plan
        if not plan.silent_fills:
            self._timeline.report(fill, plan, now_ns, late_ms)
            if plan.duplicate:
                self._timeline.report(fill, plan, now_ns, late_ms + SECOND_REPORT_MS)
            self._timeline.report_order(order, now_ns, delay_ms=late_ms)
        # Last: consequences such as brackets are reported behind the execution that caused them.
        self.after_trade(order, execution, now_ns)

    def _retire(self, order: PaperOrder, now_ns: int) -> None:
        order.ended_ns = now_ns
        self._live[order.symbol].pop(order.platform_order_id, None)
        self._book.touch_order(order)
        if len(self._book.orders) > 2 * _KEEP_ENDED:
            self._book.drop_ended(_KEEP_ENDED)
