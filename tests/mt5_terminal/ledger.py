"""The account at the broker: balance, positions, orders, deals, and what a trade does to them (netting and hedging)."""

from __future__ import annotations

from tests.mt5_terminal.clock import ServerClock
from tests.mt5_terminal.market import Symbol
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.records import Record

BUY, SELL = mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL
FIRST_ORDER, FIRST_DEAL = 1_000_000, 500_000


def side_of(order_type: int) -> int:
    """BUY or SELL of any order type: the even ones buy."""
    return order_type % 2 if order_type <= mt5.ORDER_TYPE_SELL_STOP_LIMIT else BUY


def sign_of(side: int) -> int:
    return 1 if side == BUY else -1


class Ledger:
    """`positions`, `orders`, `history_orders`, `deals`: by ticket, in order of birth.

    `commission`: charged for each lot of each deal.
    """

    def __init__(self, account: Record, clock: ServerClock, symbols: dict[str, Symbol]) -> None:
        self.account = account
        self._clock = clock
        self._symbols = symbols
        self.positions: dict[int, Record] = {}
        self.orders: dict[int, Record] = {}
        self.history_orders: dict[int, Record] = {}
        self.deals: dict[int, Record] = {}
        self.commission = 0.0
        self._next_order, self._next_deal = FIRST_ORDER, FIRST_DEAL

    @property
    def is_hedging(self) -> bool:
        return bool(self.account.margin_mode == mt5.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING)

    def new_order(self, **fields: object) -> Record:
        """An accepted order; it stands among the orders until `finish`."""
        now_ms = self._clock.now_ms()
        self._next_order += 1
        order = Record("TradeOrder", ticket=self._next_order, state=mt5.ORDER_STATE_PLACED, **fields)
        order.time_setup, order.time_setup_msc = now_ms // 1000, now_ms
        order.volume_current = order.volume_initial
        order.listed_ms = 0
        self.orders[order.ticket] = order
        return order

    def finish(self, order: Record, state: int, listed_after_ms: int = 0) -> None:
        """Into the history; `listed_after_ms`: clients see it there so much later."""
        now_ms = self._clock.now_ms()
        order.state, order.time_done, order.time_done_msc = state, now_ms // 1000, now_ms
        order.listed_ms = now_ms + listed_after_ms if listed_after_ms else 0
        self.orders.pop(order.ticket, None)
        self.history_orders[order.ticket] = order

    def position_of(self, symbol: str) -> Record | None:
        """The one position of a symbol on a netting account."""
        return next((each for each in self.positions.values() if each.symbol == symbol), None)

    def trade(self, order: Record, volume: float, price: float, listed_after_ms: int = 0) -> Record:
        """One execution of an order: its deal, and the position after it."""
        side = side_of(order.type)
        if self.is_hedging:
            held = self.positions.get(order.position_id or order.ticket)
        else:
            held = self.position_of(order.symbol)
        deal = self._new_deal(order, side, volume, price, listed_after_ms)
        if held is None:
            held = self._open(order, side, volume, price)
            deal.entry = mt5.DEAL_ENTRY_IN
        elif held.type == side:
            lots = held.volume + volume
            held.price_open = round((held.price_open * held.volume + price * volume) / lots, 8)
            held.volume = round(lots, 8)
            deal.entry = mt5.DEAL_ENTRY_IN
        else:
            closed = min(held.volume, volume)
            deal.profit = self._realise(held, closed, price)
            deal.entry = mt5.DEAL_ENTRY_OUT
            held.volume = round(held.volume - closed, 8)
            if volume > closed:
                # The position turns over: another ticket, the same identifier.
                deal.entry = mt5.DEAL_ENTRY_INOUT
                self.positions.pop(held.ticket)
                held.ticket, held.type, held.volume = order.ticket, side, round(volume - closed, 8)
                held.price_open, held.sl, held.tp = price, 0.0, 0.0
                self.positions[held.ticket] = held
            elif held.volume == 0:
                self.positions.pop(held.ticket)
        deal.position_id = order.position_id = held.identifier
        self._touch(held)
        self._give_stops(order, held)
        self.mark(self._symbols[order.symbol])
        return deal

    def close_by(self, order: Record, first: Record, second: Record) -> list[Record]:
        """Two opposite positions against each other, at the price of the second."""
        volume = min(first.volume, second.volume)
        deals = []
        for held, other in ((first, second), (second, first)):
            deal = self._new_deal(order, 1 - held.type, volume, other.price_open, 0)
            deal.entry, deal.position_id = mt5.DEAL_ENTRY_OUT_BY, held.identifier
            deal.profit = self._realise(held, volume, other.price_open) if held is first else 0.0
            deals.append(deal)
        for held in (first, second):
            held.volume = round(held.volume - volume, 8)
            self._touch(held)
            if held.volume == 0:
                self.positions.pop(held.ticket)
        return deals

    def add_balance(self, amount: float, comment: str = "", kind: int = mt5.DEAL_TYPE_BALANCE) -> Record:
        """Deposit or withdrawal: a deal without symbol."""
        now_ms = self._clock.now_ms()
        self._next_deal += 1
        deal = Record("TradeDeal", ticket=self._next_deal, type=kind, profit=amount, comment=comment)
        deal.time, deal.time_msc, deal.listed_ms, deal.copies = now_ms // 1000, now_ms, 0, 1
        self.deals[deal.ticket] = deal
        self.account.balance = round(self.account.balance + amount, 2)
        self._sum_up()
        return deal

    def bust(self, deal: Record) -> None:
        """Take an execution back, as brokers do: the deal keeps its ticket and becomes a cancelled one."""
        side, profit = deal.type, deal.profit
        deal.type = mt5.DEAL_TYPE_BUY_CANCELED if side == BUY else mt5.DEAL_TYPE_SELL_CANCELED
        deal.profit = 0.0
        held = next((each for each in self.positions.values() if each.identifier == deal.position_id), None)
        if held is None:
            held = Record("TradePosition", ticket=deal.order, identifier=deal.position_id, symbol=deal.symbol)
            held.type, held.price_open, held.sibling_ms = side, deal.price, 0
        signed = round(sign_of(held.type) * held.volume - sign_of(side) * deal.volume, 8)
        self.positions.pop(held.ticket, None)
        if signed:
            held.type, held.volume = (BUY if signed > 0 else SELL), abs(signed)
            self.positions[held.ticket] = held
            self._touch(held)
        if profit:
            self.add_balance(-profit, f"cancel #{deal.ticket}", mt5.DEAL_TYPE_CORRECTION)
        self._sum_up()

    def mark(self, symbol: Symbol) -> None:
        """New prices: profit of the positions, equity."""
        for held in self.positions.values():
            if held.symbol == symbol.name:
                bid, ask = symbol.quote()
                price = (bid if held.type == BUY else ask) or symbol.info.last or held.price_open
                held.price_current = price
                held.profit = round(symbol.money((price - held.price_open) * sign_of(held.type), held.volume), 2)
        self._sum_up()

    def margin(self, symbol: Symbol, volume: float, price: float) -> float:
        """Account currency that this volume ties up."""
        if symbol.info.margin_initial:
            return round(symbol.info.margin_initial * volume, 2)
        leverage = max(1, self.account.leverage)
        return round(symbol.money(price, volume) / leverage, 2)

    def _open(self, order: Record, side: int, volume: float, price: float) -> Record:
        now_ms = self._clock.now_ms()
        held = Record("TradePosition", ticket=order.ticket, identifier=order.ticket, type=side, volume=volume)
        held.time, held.time_msc = now_ms // 1000, now_ms
        held.symbol, held.price_open, held.price_current = order.symbol, price, price
        held.magic, held.reason, held.comment = order.magic, order.reason, order.comment
        held.sibling_ms = 0
        self.positions[held.ticket] = held
        return held

    def _new_deal(self, order: Record, side: int, volume: float, price: float, listed_after_ms: int) -> Record:
        now_ms = self._clock.now_ms()
        self._next_deal += 1
        deal = Record("TradeDeal", ticket=self._next_deal, order=order.ticket, type=side, volume=volume, price=price)
        deal.time, deal.time_msc, deal.copies = now_ms // 1000, now_ms, 1
        deal.listed_ms = now_ms + listed_after_ms if listed_after_ms else 0
        deal.symbol, deal.magic, deal.reason, deal.comment = order.symbol, order.magic, order.reason, order.comment
        deal.commission = -round(self.commission * volume, 2)
        self.account.balance = round(self.account.balance + deal.commission, 2)
        self.deals[deal.ticket] = deal
        return deal

    def _give_stops(self, order: Record, held: Record) -> None:
        if held.ticket in self.positions:
            held.sl, held.tp = order.sl or held.sl, order.tp or held.tp

    def _realise(self, held: Record, volume: float, price: float) -> float:
        symbol = self._symbols[held.symbol]
        profit = round(symbol.money((price - held.price_open) * sign_of(held.type), volume), 2)
        self.account.balance = round(self.account.balance + profit, 2)
        return profit

    def _touch(self, held: Record) -> None:
        now_ms = self._clock.now_ms()
        held.time_update, held.time_update_msc = now_ms // 1000, now_ms

    def _sum_up(self) -> None:
        account = self.account
        account.profit = round(sum(held.profit for held in self.positions.values()), 2)
        account.margin = round(
            sum(self.margin(self._symbols[p.symbol], p.volume, p.price_open) for p in self.positions.values()), 2
        )
        account.equity = round(account.balance + account.credit + account.profit, 2)
        account.margin_free = round(account.equity - account.margin, 2)
        account.margin_level = round(account.equity / account.margin * 100, 2) if account.margin else 0.0
