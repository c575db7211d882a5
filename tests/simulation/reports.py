"""What a fake platform reports of its orders and of its account."""

from __future__ import annotations

from nexus_gateway.core import messages as m

from tests.simulation.book import LIVE, NEW, OLD, Book, HeldOrder, with_changes


def make_update(book: Book, held: HeldOrder, revision: int = 0) -> m.OrderUpdate:
    return m.OrderUpdate(
        client_order_id=held.order.client_order_id,
        platform=book.name,
        account=book.account,
        symbol=book.symbol_of(held.contract),
        side=held.order.side,
        state=held.state,
        quantity=held.quantity,
        filled=held.filled + held.overfilled,
        platform_order_id=held.platform_id,
        order_type=held.order.order_type,
        limit_price=held.limit_price,
        stop_price=held.stop_price,
        replace_revision=revision,
        ts_event_ns=book.clock_ns,
    )


def make_reject(book: Book, client_order_id: str, code: m.RejectCode, text: str, revision: int = 0) -> m.Reject:
    return m.Reject(
        code=code,
        text=text,
        client_order_id=client_order_id,
        platform=book.name,
        account=book.account,
        replace_revision=revision,
    )


def make_snapshot(book: Book, request: m.SnapshotRequest) -> m.Snapshot:
    now = book.clock_ns
    rows = [
        m.WorkingOrder(
            client_order_id=held.order.client_order_id,
            symbol=book.symbol_of(held.contract),
            side=held.order.side,
            state=held.state,
            quantity=held.quantity,
            filled=held.filled + held.overfilled,
            platform_order_id=held.platform_id,
            order_type=held.order.order_type,
            limit_price=held.limit_price,
            stop_price=held.stop_price,
        )
        for held in book.orders.values()
        if held.state in LIVE or book.faults.lists_ended_orders
    ]
    if book.mode is m.AccountMode.HEDGING:
        lots = [(book.ticket_contracts[ticket], held, ticket) for ticket, held in book.tickets.items()]
    else:
        lots = [(contract, book.net(contract), "") for contract in (OLD, NEW)]
    positions = [
        m.Position(symbol=book.symbol_of(contract), quantity=held, ticket=ticket, contract=contract)
        for contract, held, ticket in lots
        if held
    ]
    fills = [
        with_changes(e.fill, symbol=book.symbol_of(e.contract))
        for e in book.executions.values()
        if not e.busted and e.fill.ts_event_ns >= request.executions_from_ns
    ]
    return m.Snapshot(
        request_id=request.request_id,
        platform=book.name,
        account=book.account,
        positions=m.Positions(platform=book.name, account=book.account, rows=tuple(positions), as_of_ns=now),
        working_orders=m.WorkingOrders(platform=book.name, account=book.account, rows=tuple(rows), as_of_ns=now),
        executions=m.Executions(
            platform=book.name,
            account=book.account,
            rows=tuple(fills),
            from_ns=request.executions_from_ns,
            as_of_ns=now,
        ),
        funds=m.Account(
            platform=book.name,
            account=book.account,
            currency="USD",
            balance=book.equity,
            equity=book.equity,
            as_of_ns=now,
        ),
        complete=not book.faults.strike("incomplete_snapshot", book.schedule),
    )
