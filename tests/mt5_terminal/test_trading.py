"""The stand-in's broker: netting and hedging, filling, refusals, pending orders, stops (mt5.md A.5, A.6)."""

from __future__ import annotations

import pytest

from tests.mt5_terminal.attached import FUTURE_S, attached, deals_of, pend, send, until
from tests.mt5_terminal.module import MetaTrader5 as mt5

BUY, SELL = mt5.ORDER_TYPE_BUY, mt5.ORDER_TYPE_SELL
DONE, PLACED = mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED


@pytest.fixture
def hedging(tmp_path):
    """USD, MARKET execution; NAS100 takes IOC only."""
    with attached(tmp_path) as stand_in:
        mt5.symbol_select("NAS100")
        stand_in.quote("NAS100", 18000.0, 18001.0)
        yield stand_in


@pytest.fixture
def netting(tmp_path):
    """NQZ26, EXCHANGE execution without delay between PLACED and the deal worth waiting for."""
    with attached(tmp_path, "futures", exchange_delay_ms=10) as stand_in:
        mt5.symbol_select("NQZ26")
        stand_in.quote("NQZ26", 18000.0, 18000.25)
        yield stand_in


def trade(symbol: str, side: int, volume: float, **terms: object) -> tuple:
    """Send to the exchange, wait for the deal; (order, deal)."""
    result = send(symbol, side, volume, **terms)
    assert result.retcode == PLACED
    return result.order, until(lambda: deals_of(result.order), "the deal")[-1]


def test_market_execution_gives_deal_and_price_at_once(hedging):
    result = send("NAS100", BUY, 2.0, comment="abc")
    assert (result.retcode, result.volume, result.price) == (DONE, 2.0, 18001.0)
    assert (result.bid, result.ask, result.comment) == (18000.0, 18001.0, "Request executed")
    (deal,) = deals_of(result.order)
    assert (deal.ticket, deal.entry, deal.reason, deal.magic) == (result.deal, mt5.DEAL_ENTRY_IN, 3, 7)
    (held,) = mt5.positions_get(symbol="NAS100")
    assert (held.ticket, held.identifier, held.volume, held.comment) == (result.order, result.order, 2.0, "abc")
    assert held.profit == -2.0
    (order,) = mt5.history_orders_get(ticket=result.order)
    assert (order.state, order.volume_initial, order.volume_current) == (mt5.ORDER_STATE_FILLED, 2.0, 0.0)
    assert mt5.orders_get() == ()
    assert mt5.account_info().equity == 1_000_000.0 - 2.0


def test_hedging_keeps_opposite_positions_apart(hedging):
    first, second = send("NAS100", BUY, 2.0), send("NAS100", SELL, 1.0)
    assert {(p.ticket, p.type, p.volume) for p in mt5.positions_get()} == {
        (first.order, 0, 2.0),
        (second.order, 1, 1.0),
    }
    too_much = send("NAS100", SELL, 3.0, position=first.order)
    assert too_much.retcode == mt5.TRADE_RETCODE_INVALID_CLOSE_VOLUME
    hedging.quote("NAS100", 18011.0, 18012.0)
    part = send("NAS100", SELL, 0.5, position=first.order)
    (deal,) = deals_of(part.order)
    assert (deal.entry, deal.position_id, deal.profit) == (mt5.DEAL_ENTRY_OUT, first.order, 5.0)
    assert mt5.account_info().balance == 1_000_005.0
    (held,) = mt5.positions_get(ticket=first.order)
    assert (held.volume, held.price_open) == (1.5, 18001.0)
    rest = send("NAS100", SELL, 1.5, position=first.order)
    assert rest.retcode == DONE
    assert [p.ticket for p in mt5.positions_get()] == [second.order]
    assert send("NAS100", SELL, 1.0, position=first.order).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert {d.order for d in mt5.history_deals_get(position=first.order)} == {first.order, part.order, rest.order}


def test_close_by(hedging):
    long, short = send("NAS100", BUY, 2.0), send("NAS100", SELL, 0.5)
    request = {"action": mt5.TRADE_ACTION_CLOSE_BY, "position": long.order, "position_by": short.order}
    result = mt5.order_send(request)
    assert result.retcode == DONE
    assert [d.entry for d in deals_of(result.order)] == [mt5.DEAL_ENTRY_OUT_BY] * 2
    (held,) = mt5.positions_get()
    assert (held.ticket, held.volume) == (long.order, 1.5)
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


def test_exchange_execution_places_first_and_fills_later(netting):
    netting.script("placed", after_ms=200)
    result = send("NQZ26", BUY, 2.0)
    assert (result.retcode, result.deal, result.price) == (PLACED, 0, 0.0)
    (order,) = mt5.orders_get(ticket=result.order)
    assert (order.state, order.type, order.volume_current) == (mt5.ORDER_STATE_PLACED, BUY, 2.0)
    assert mt5.positions_get() == ()
    assert deals_of(result.order) == ()
    (deal,) = until(lambda: deals_of(result.order), "the deal")
    assert (deal.price, deal.volume, deal.entry) == (18000.25, 2.0, mt5.DEAL_ENTRY_IN)
    assert mt5.orders_total() == 0


def test_netting_adds_reduces_turns_over_and_closes(netting):
    first, _ = trade("NQZ26", BUY, 1.0)
    netting.quote("NQZ26", 18010.0, 18010.25)
    trade("NQZ26", BUY, 1.0)
    (held,) = mt5.positions_get()
    assert (held.ticket, held.volume, held.price_open) == (first, 2.0, 18005.25)
    netting.quote("NQZ26", 18015.25, 18015.5)
    _, out = trade("NQZ26", SELL, 1.0)
    assert (out.entry, out.profit, out.position_id) == (mt5.DEAL_ENTRY_OUT, 200.0, first)
    turned, flip = trade("NQZ26", SELL, 3.0)
    assert (flip.entry, flip.volume, flip.profit, flip.position_id) == (mt5.DEAL_ENTRY_INOUT, 3.0, 200.0, first)
    (held,) = mt5.positions_get()
    assert (held.ticket, held.identifier, held.type, held.volume) == (turned, first, SELL, 2.0)
    assert held.price_open == 18015.25
    _, end = trade("NQZ26", BUY, 2.0)
    assert (end.entry, end.profit) == (mt5.DEAL_ENTRY_OUT, -10.0)
    assert mt5.positions_get() == ()
    assert mt5.account_info().balance == 1_000_000.0 + 200 + 200 - 10
    assert len(mt5.history_deals_get(position=first)) == 5


@pytest.mark.parametrize(("symbol", "mask"), [("NAS100", 2), ("US100.cash", 1), ("US500", 3)])
def test_filling_mask_is_not_the_enum(hedging, symbol, mask):
    mt5.symbol_select(symbol)
    hedging.quote(symbol, 18000.0, 18001.0)
    assert mt5.symbol_info(symbol).filling_mode == mask
    allowed = {mt5.ORDER_FILLING_FOK: mask & 1, mt5.ORDER_FILLING_IOC: mask & 2, mt5.ORDER_FILLING_RETURN: 0, 3: 0}
    for filling, is_allowed in allowed.items():
        expected = DONE if is_allowed else mt5.TRADE_RETCODE_INVALID_FILL
        assert send(symbol, BUY, 1.0, type_filling=filling).retcode == expected, filling
        check = mt5.order_check({"action": 1, "symbol": symbol, "type": BUY, "volume": 1.0, "type_filling": filling})
        assert check.retcode == 0, "order_check is no proof"


def test_return_is_for_exchanges_and_limits(hedging, tmp_path):
    limit = pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0)
    stop = pend("NAS100", mt5.ORDER_TYPE_BUY_STOP, 1.0, 19000.0)
    boc = pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0, type_filling=mt5.ORDER_FILLING_BOC)
    assert (limit.retcode, stop.retcode, boc.retcode) == (DONE, 10030, 10030)
    with attached(tmp_path / "x", "futures") as exchange:
        mt5.symbol_select("NQZ26")
        exchange.quote("NQZ26", 18000.0, 18000.25)
        assert send("NQZ26", BUY, 1.0, type_filling=mt5.ORDER_FILLING_RETURN).retcode == PLACED


@pytest.mark.parametrize(
    ("terms", "retcode"),
    [
        ({"volume": 0.05}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 0.15}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 501.0}, mt5.TRADE_RETCODE_INVALID_VOLUME),
        ({"volume": 0.30000000000000004}, DONE),
        ({"symbol": "NOSUCH"}, mt5.TRADE_RETCODE_INVALID),
        ({"action": 99}, mt5.TRADE_RETCODE_INVALID),
        ({"type": mt5.ORDER_TYPE_BUY_LIMIT}, mt5.TRADE_RETCODE_INVALID),
        ({"position": 99}, mt5.TRADE_RETCODE_POSITION_CLOSED),
        ({"sl": 18000.5}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"tp": 17999.0}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"sl": 17990.001}, mt5.TRADE_RETCODE_INVALID_STOPS),
        ({"sl": 17990.0, "tp": 18010.0}, DONE),
        ({"type_filling": mt5.ORDER_FILLING_FOK}, mt5.TRADE_RETCODE_INVALID_FILL),
    ],
)
def test_what_a_market_order_is_refused_for(hedging, terms, retcode):
    request = {"action": mt5.TRADE_ACTION_DEAL, "symbol": "NAS100", "type": BUY, "volume": 1.0, "type_filling": 1}
    result = mt5.order_send(request | terms)
    assert result.retcode == retcode
    assert result.comment
    assert bool(mt5.positions_get()) == (retcode == DONE)


def test_refusals_that_depend_on_the_state(hedging):
    def retcode(side: int = BUY, **terms: object) -> int:
        return send("NAS100", side, 1.0, **terms).retcode

    for mode, expected in ((0, (10017, 10017)), (1, (DONE, 10042)), (2, (10043, DONE)), (3, (10044, 10044))):
        hedging.set_symbol("NAS100", trade_mode=mode)
        assert (retcode(BUY), retcode(SELL)) == expected, mode
    hedging.set_symbol("NAS100", trade_mode=mt5.SYMBOL_TRADE_MODE_FULL)
    hedging.set_market("NAS100", False)
    assert retcode() == mt5.TRADE_RETCODE_MARKET_CLOSED
    hedging.set_market("NAS100", True)
    hedging.quote("NAS100", 0.0, 0.0)
    assert retcode() == mt5.TRADE_RETCODE_PRICE_OFF
    hedging.quote("NAS100", 18000.0, 18001.0)
    hedging.set_symbol("NAS100", volume_limit=1.5)
    hedging.hand_close()
    assert (retcode(), retcode()) == (DONE, mt5.TRADE_RETCODE_LIMIT_VOLUME)
    hedging.set_symbol("NAS100", volume_limit=0.0, trade_stops_level=500)
    assert retcode(sl=17996.0) == mt5.TRADE_RETCODE_INVALID_STOPS
    assert retcode(sl=17995.0) == DONE
    assert send("NAS100", BUY, 500.0, sl=17000.0).retcode == DONE
    hedging.set_account(leverage=1)
    assert send("NAS100", BUY, 100.0).retcode == mt5.TRADE_RETCODE_NO_MONEY


def test_instant_execution_requotes_beyond_the_deviation(hedging):
    hedging.set_symbol("NAS100", trade_exemode=mt5.SYMBOL_TRADE_EXECUTION_INSTANT)
    assert send("NAS100", BUY, 1.0, price=18000.0, deviation=50).retcode == mt5.TRADE_RETCODE_REQUOTE
    assert send("NAS100", BUY, 1.0, price=18000.0, deviation=100).retcode == DONE
    assert send("NAS100", BUY, 1.0).retcode == mt5.TRADE_RETCODE_INVALID_PRICE


def test_prices_lie_on_the_tick_size_not_on_the_point(tmp_path):
    with attached(tmp_path, "b3") as stand_in:
        info = mt5.symbol_info("WINZ26")
        assert (info.digits, info.point, info.trade_tick_size, info.trade_tick_value) == (0, 1.0, 5.0, 1.0)
        stand_in.quote("WINZ26", 175750.0, 175755.0)
        assert pend("WINZ26", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 175702.0).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
        assert pend("WINZ26", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 175700.0).retcode == DONE
        assert send("WIN$", BUY, 1.0).retcode == mt5.TRADE_RETCODE_TRADE_DISABLED
        names = [each.name for each in mt5.symbols_get("WIN*") if each.trade_mode == mt5.SYMBOL_TRADE_MODE_FULL]
        assert names == ["WINQ26", "WINV26", "WINZ26", "WING27", "WINZ26_71R"]
        assert mt5.symbol_info("WIN$").description.startswith("por liquidez (WINZ26)")


def test_pending_orders_wait_for_their_price(hedging):
    for order_type, price, wrong in (
        (mt5.ORDER_TYPE_BUY_LIMIT, 17990.0, 18001.0),
        (mt5.ORDER_TYPE_SELL_LIMIT, 18010.0, 18000.0),
    ):
        assert pend("NAS100", order_type, 1.0, wrong).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
        assert pend("NAS100", order_type, 1.0, price).retcode == DONE
    for order_type, price in ((mt5.ORDER_TYPE_BUY_STOP, 18010.0), (mt5.ORDER_TYPE_SELL_STOP, 17990.0)):
        assert pend("NAS100", order_type, 1.0, price, type_filling=mt5.ORDER_FILLING_IOC).retcode == DONE
    stop_limit = {"stoplimit": 18005.0}
    assert pend("NAS100", mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.0, 18010.0, **stop_limit).retcode == DONE
    assert pend("NAS100", mt5.ORDER_TYPE_BUY_STOP_LIMIT, 1.0, 18010.0).retcode == mt5.TRADE_RETCODE_INVALID_PRICE
    assert mt5.orders_total() == 5
    hedging.quote("NAS100", 18010.0, 18011.0)
    filled = {order.type: order for order in mt5.history_orders_get(1_000, FUTURE_S)}
    assert set(filled) == {mt5.ORDER_TYPE_SELL_LIMIT, mt5.ORDER_TYPE_BUY_STOP}
    prices = [deals_of(filled[kind].ticket)[0].price for kind in sorted(filled)]
    assert prices == [18010.0, 18011.0], "the limit at the bid, the stop at the ask"
    hedging.quote("NAS100", 18004.0, 18005.0)
    (last,) = [o for o in mt5.history_orders_get(1_000, FUTURE_S) if o.type == mt5.ORDER_TYPE_BUY_STOP_LIMIT]
    assert deals_of(last.ticket)[0].price == 18005.0


def test_modify_remove_and_expire(hedging):
    order = pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0).order

    def change(action: int, **terms: object) -> int:
        return mt5.order_send({"action": action, "order": order, "symbol": "NAS100"} | terms).retcode

    assert change(mt5.TRADE_ACTION_MODIFY, price=17000.0) == mt5.TRADE_RETCODE_NO_CHANGES
    assert change(mt5.TRADE_ACTION_MODIFY, price=17000.005) == mt5.TRADE_RETCODE_INVALID_PRICE
    assert change(mt5.TRADE_ACTION_MODIFY, price=17100.0, sl=16900.0) == DONE
    (row,) = mt5.orders_get(ticket=order)
    assert (row.price_open, row.sl, row.volume_current) == (17100.0, 16900.0, 1.0)
    hedging.set_symbol("NAS100", trade_freeze_level=100_000)
    assert change(mt5.TRADE_ACTION_MODIFY, price=17200.0) == mt5.TRADE_RETCODE_FROZEN
    assert change(mt5.TRADE_ACTION_REMOVE) == mt5.TRADE_RETCODE_FROZEN
    hedging.set_symbol("NAS100", trade_freeze_level=0)
    assert change(mt5.TRADE_ACTION_REMOVE) == DONE
    assert change(mt5.TRADE_ACTION_REMOVE) == mt5.TRADE_RETCODE_INVALID
    (gone,) = mt5.history_orders_get(ticket=order)
    assert gone.state == mt5.ORDER_STATE_CANCELED
    now_s = hedging.server_now_ms() // 1000
    terms = {"type_time": mt5.ORDER_TIME_SPECIFIED}
    past = pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0, expiration=now_s - 1, **terms)
    assert past.retcode == mt5.TRADE_RETCODE_INVALID_EXPIRATION
    soon = pend("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0, expiration=now_s + 1, **terms).order
    until(lambda: mt5.history_orders_get(ticket=soon), "the expiry")
    assert mt5.history_orders_get(ticket=soon)[0].state == mt5.ORDER_STATE_EXPIRED


@pytest.mark.parametrize(("bid", "reason", "comment"), [(17990.0, 4, "[sl 17990.00]"), (18020.0, 5, "[tp 18020.00]")])
def test_stop_loss_and_take_profit_close_the_position(hedging, bid, reason, comment):
    opened = send("NAS100", BUY, 1.0, sl=17990.0, tp=18020.0)
    assert mt5.positions_get(ticket=opened.order)[0].tp == 18020.0
    hedging.quote("NAS100", bid, bid + 1)
    assert mt5.positions_get() == ()
    deal = mt5.history_deals_get(position=opened.order)[-1]
    assert (deal.reason, deal.comment, deal.entry, deal.price) == (reason, comment, mt5.DEAL_ENTRY_OUT, bid)
    (order,) = mt5.history_orders_get(ticket=deal.order)
    assert (order.type, order.reason, order.position_id) == (SELL, reason, opened.order)


def test_stops_of_a_position_are_changed(hedging):
    opened = send("NAS100", BUY, 1.0).order
    request = {"action": mt5.TRADE_ACTION_SLTP, "symbol": "NAS100", "position": opened}
    assert mt5.order_send(request).retcode == mt5.TRADE_RETCODE_NO_CHANGES
    assert mt5.order_send(request | {"sl": 18000.5}).retcode == mt5.TRADE_RETCODE_INVALID_STOPS
    assert mt5.order_send(request | {"sl": 17000.0, "tp": 19000.0}).retcode == DONE
    assert mt5.positions_get()[0][11:13] == (17000.0, 19000.0)
    assert mt5.order_send(request | {"position": 99, "sl": 1.0}).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED


def test_an_exchange_waits_for_a_sane_quote_and_takes_crossing_limits(netting):
    netting.quote("NQZ26", 18010.0, 18000.0)
    market = send("NQZ26", BUY, 1.0)
    assert market.retcode == PLACED
    limit = pend("NQZ26", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 18050.0)
    assert limit.retcode == DONE
    netting.quote("NQZ26", 0.0, 0.0)
    assert mt5.orders_total() == 2
    netting.quote("NQZ26", 18000.0, 18000.25)
    prices = [until(lambda each=each: deals_of(each), "its deal")[0].price for each in (market.order, limit.order)]
    assert prices == [18000.25, 18000.25]


def test_hands_and_the_broker(hedging):
    hedging.hand_trade("NAS100", "sell", 1.0)
    (held,) = mt5.positions_get()
    assert (held.magic, held.reason) == (0, mt5.POSITION_REASON_CLIENT)
    by_hand = hedging.hand_order("NAS100", mt5.ORDER_TYPE_BUY_LIMIT, 1.0, 17000.0)["ticket"]
    hedging.hand_modify(by_hand, 17001.0)
    assert mt5.orders_get(ticket=by_hand)[0].price_open == 17001.0
    hedging.hand_cancel(by_hand)
    hedging.hand_close(held.ticket)
    deal = mt5.history_deals_get(position=held.ticket)[-1]
    assert (deal.reason, deal.magic, deal.entry) == (0, 0, mt5.DEAL_ENTRY_OUT)
    hedging.set_commission(2.5)
    paid = send("NAS100", BUY, 2.0)
    assert deals_of(paid.order)[0].commission == -5.0
    assert mt5.account_info().balance == 999_994.0, "a point lost with the short one, and the commission"
    hedging.hand_stops(paid.order, sl=17000.0)
    assert mt5.positions_get(ticket=paid.order)[0].sl == 17000.0
    hedging.balance(-500.0, "withdrawal")
    newest = mt5.history_deals_get(1_000, FUTURE_S)[-1]
    assert (newest.type, newest.symbol, newest.profit) == (mt5.DEAL_TYPE_BALANCE, "", -500.0)
    send("NAS100", BUY, 1.0)
    hedging.stop_out()
    assert mt5.history_deals_get(1_000, FUTURE_S)[-1].reason == mt5.DEAL_REASON_SO
    assert mt5.positions_get() == ()


def test_a_busted_deal_keeps_its_ticket_and_loses_its_effect(hedging):
    kept, busted = send("NAS100", BUY, 1.0), send("NAS100", BUY, 2.0)
    hedging.quote("NAS100", 18100.0, 18101.0)
    closed = send("NAS100", SELL, 1.0, position=kept.order)
    hedging.bust(busted.deal)
    (deal,) = deals_of(busted.order)
    assert (deal.ticket, deal.type, deal.volume) == (busted.deal, mt5.DEAL_TYPE_BUY_CANCELED, 2.0)
    assert mt5.positions_get() == ()
    hedging.bust(closed.deal)
    (again,) = mt5.positions_get()
    assert (again.identifier, again.type, again.volume) == (kept.order, BUY, 1.0)
    assert mt5.account_info().balance == 1_000_000.0
    hedging.correct(kept.deal, 18001.5)
    assert deals_of(kept.order)[0].price == 18001.5
