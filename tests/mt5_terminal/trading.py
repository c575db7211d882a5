"""Trade requests of the module at the broker: checked, carried out, answered, as the scenarios want it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psutil

from tests.mt5_terminal import checks
from tests.mt5_terminal.answers import IPC_TEXTS, Answer, refuse
from tests.mt5_terminal.broker import Broker
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.records import Record, request_record
from tests.mt5_terminal.scenarios import Plan

Mute = Callable[[int], None]
"""Makes the terminal show nothing new for so many milliseconds."""


class Trading:
    """One terminal session's way to the broker."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._request_id = 0

    def check(self, row: list[Any]) -> Answer:
        """order_check."""
        request = request_record(row)
        account = self.broker.ledger.account
        result = Record("OrderCheckResult", balance=account.balance, equity=account.equity, profit=account.profit)
        result.margin, result.margin_free, result.margin_level = (
            account.margin,
            account.margin_free,
            account.margin_level,
        )
        # It does not look at the filling mode: one more reason why it proves nothing (mt5.md A.6.5).
        code = self._check(request)
        result.retcode = 0 if code == mt5.TRADE_RETCODE_INVALID_FILL else code
        result.comment, result.request = checks.RETCODE_TEXTS[result.retcode], row
        return Answer(result.row())

    def send(self, request: Record, pid: int, mute: Mute) -> Answer:
        """order_send of the process `pid`."""
        is_new = request.action in (mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_PENDING)
        plan = self.broker.script.take(request.volume, bool(request.position)) if is_new else Plan()
        if plan.name == "slow":
            return Answer(after_ms=plan.after_ms, begin=lambda: self._execute(request, plan, pid, mute))
        return self._execute(request, plan, pid, mute)

    def _execute(self, request: Record, plan: Plan, pid: int, mute: Mute) -> Answer:
        if plan.name == "reject":
            return self.result(request, plan.terms["retcode"])
        if plan.name == "timeout_then_nothing":
            return self.result(request, mt5.TRADE_RETCODE_TIMEOUT)
        if plan.name == "death_before_accept":
            return self._kill(pid, self.result(request, mt5.TRADE_RETCODE_REJECT))
        if plan.name in ("retcode", "no_answer", "answer_lost") and not plan.terms["executed"]:
            return self._unclear(request, plan)
        refusal = self._check(request)
        if refusal:
            return self.result(request, refusal)
        if plan.name == "mute_link":
            mute(plan.after_ms)
        answer = self._carry_out(request, plan)
        if plan.name in ("death_after_accept", "death_after_fill"):
            return self._kill(pid, answer)
        if plan.name == "fill_before_ack":
            answer.after_ms = plan.after_ms
        elif plan.name == "hang_after":
            answer.fate = "never"
        elif plan.name == "timeout_then_ack":
            return self.result(request, mt5.TRADE_RETCODE_TIMEOUT)
        elif plan.name in ("retcode", "no_answer", "answer_lost"):
            return self._unclear(request, plan)
        return answer

    def _carry_out(self, request: Record, plan: Plan) -> Answer:
        broker, ledger = self.broker, self.broker.ledger
        if request.action in (mt5.TRADE_ACTION_DEAL, mt5.TRADE_ACTION_PENDING):
            order = broker.place(request, plan)
            deals = [deal for deal in ledger.deals.values() if deal.order == order.ticket]
            if request.action == mt5.TRADE_ACTION_PENDING:
                return self.result(request, mt5.TRADE_RETCODE_DONE, order=order, volume=request.volume)
            if not deals:
                return self.result(request, mt5.TRADE_RETCODE_PLACED, order=order, volume=request.volume)
            traded = round(sum(deal.volume for deal in deals), 8)
            is_whole = traded >= order.volume_initial
            code = mt5.TRADE_RETCODE_DONE if is_whole else mt5.TRADE_RETCODE_DONE_PARTIAL
            price = round(sum(deal.price * deal.volume for deal in deals) / traded, 8)
            return self.result(request, code, order=order, deal=deals[0].ticket, volume=traded, price=price)
        if request.action == mt5.TRADE_ACTION_REMOVE:
            order = ledger.orders[request.order]
            return self.result(request, broker.cancel(order), order=order)
        if request.action == mt5.TRADE_ACTION_MODIFY:
            order = ledger.orders[request.order]
            return self.result(request, broker.modify(order, request), order=order)
        if request.action == mt5.TRADE_ACTION_SLTP:
            held = self._position_of(request)
            assert held is not None
            held.sl, held.tp = request.sl, request.tp
            return self.result(request, mt5.TRADE_RETCODE_DONE)
        first, second = ledger.positions[request.position], ledger.positions[request.position_by]
        order = ledger.new_order(type=mt5.ORDER_TYPE_CLOSE_BY, symbol=first.symbol, magic=request.magic)
        order.position_id, order.position_by_id, order.plan = first.identifier, second.identifier, Plan()
        order.reason = mt5.ORDER_REASON_EXPERT
        deals = ledger.close_by(order, first, second)
        ledger.finish(order, mt5.ORDER_STATE_FILLED)
        return self.result(request, mt5.TRADE_RETCODE_DONE, order=order, deal=deals[0].ticket, volume=deals[0].volume)

    def _check(self, request: Record) -> int:
        """What speaks against it; 0 = nothing."""
        broker, ledger = self.broker, self.broker.ledger
        symbol = broker.symbols.get(request.symbol)
        if request.action == mt5.TRADE_ACTION_DEAL:
            return checks.check_deal(request, symbol, ledger)
        if request.action == mt5.TRADE_ACTION_PENDING:
            return checks.check_pending(request, symbol, ledger, broker.clock.now_ms() // 1000)
        if request.action in (mt5.TRADE_ACTION_REMOVE, mt5.TRADE_ACTION_MODIFY):
            order = ledger.orders.get(request.order)
            if order is None:
                return mt5.TRADE_RETCODE_INVALID
            return self._check_change(request, order)
        if request.action == mt5.TRADE_ACTION_SLTP:
            return self._check_stops(request)
        if request.action == mt5.TRADE_ACTION_CLOSE_BY:
            first, second = (ledger.positions.get(each) for each in (request.position, request.position_by))
            if not ledger.is_hedging or first is None or second is None:
                return mt5.TRADE_RETCODE_POSITION_CLOSED if ledger.is_hedging else mt5.TRADE_RETCODE_INVALID
            is_pair = first.symbol == second.symbol and first.type != second.type
            return 0 if is_pair else mt5.TRADE_RETCODE_INVALID
        return mt5.TRADE_RETCODE_INVALID

    def _check_change(self, request: Record, order: Record) -> int:
        symbol = self.broker.symbols[order.symbol]
        if order.price_open and checks.is_frozen(symbol, order.price_open):
            return mt5.TRADE_RETCODE_FROZEN
        if not symbol.is_open:
            return mt5.TRADE_RETCODE_MARKET_CLOSED
        if request.action == mt5.TRADE_ACTION_REMOVE:
            return 0
        wanted = (request.price, request.sl, request.tp, request.stoplimit, request.type_time, request.expiration)
        present = (order.price_open, order.sl, order.tp, order.price_stoplimit, order.type_time, order.time_expiration)
        if wanted == present:
            return mt5.TRADE_RETCODE_NO_CHANGES
        now_s = self.broker.clock.now_ms() // 1000
        return checks.check_pending_terms(request, order.type, symbol, now_s)

    def _check_stops(self, request: Record) -> int:
        held = self._position_of(request)
        if held is None:
            return mt5.TRADE_RETCODE_POSITION_CLOSED
        symbol = self.broker.symbols[held.symbol]
        if (held.sl, held.tp) == (request.sl, request.tp):
            return mt5.TRADE_RETCODE_NO_CHANGES
        if any(stop and checks.is_frozen(symbol, stop) for stop in (held.sl, held.tp)):
            return mt5.TRADE_RETCODE_FROZEN
        return checks.check_stops(symbol, held.type, request.sl, request.tp, held.price_current)

    def _position_of(self, request: Record) -> Record | None:
        ledger = self.broker.ledger
        if request.position:
            return ledger.positions.get(request.position)
        return None if ledger.is_hedging else ledger.position_of(request.symbol)

    def _unclear(self, request: Record, plan: Plan) -> Answer:
        if plan.name == "retcode":
            return self.result(request, plan.terms["retcode"])
        if plan.name == "answer_lost":
            return Answer(fate="break")
        return refuse((plan.terms["code"], IPC_TEXTS.get(plan.terms["code"], "Terminal: Call failed")))

    def _kill(self, pid: int, answer: Answer) -> Answer:
        """The caller dies and hears nothing more; or the victim does, and the caller lives and is answered."""
        victim_pid = self.broker.victim_pid
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(victim_pid or pid).kill()
        return answer if victim_pid else Answer(fate="never")

    def result(
        self,
        request: Record,
        retcode: int,
        *,
        order: Record | None = None,
        deal: int = 0,
        volume: float = 0.0,
        price: float = 0.0,
    ) -> Answer:
        """An OrderSendResult; it is also noted for the tests."""
        self._request_id += 1
        result = Record("OrderSendResult", retcode=retcode, deal=deal, volume=volume, price=price)
        result.order = order.ticket if order is not None else 0
        symbol = self.broker.symbols.get(request.symbol)
        if symbol is not None:
            result.bid, result.ask = symbol.quote()
        result.comment = checks.RETCODE_TEXTS.get(retcode, "Unknown")
        result.request_id, result.request = self._request_id, request.row()
        noted = {"request": request.as_dict(), "retcode": retcode, "order": result.order, "deal": deal}
        self.broker.requests.append(noted)
        return Answer(result.row())
