"""Rename the paper account's rows at a roll.

A real platform has a name for each contract, so a roll changes nothing there. The paper account uses universal names,
which stand for the new contract after a roll: rows of the former contract get that contract's own name, and the
universal name again if that contract is in front again. Decided by the contract stored in each row, so that a restart
in the middle finds the same work.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from ...core.messages import Instrument
from .book import PaperBook


def rename_rolled(book: PaperBook, instruments: Mapping[str, Instrument]) -> dict[str, str]:
    """Name rows of the front contract by the universal name, and rows of other contracts by the contract.

    Returns:
        Former name -> new name of the renamed symbols.
    """
    renamed: dict[str, str] = {}
    fronts = {each.contract: symbol for symbol, each in instruments.items() if each.contract not in ("", symbol)}

    def new_name(symbol: str, contract: str) -> str:
        now = instruments.get(symbol)
        name = symbol
        if contract and symbol == contract:
            name = fronts.get(contract, symbol)
        elif contract and now is not None and now.contract not in ("", contract) and contract in instruments:
            name = contract
        if name != symbol:
            renamed[symbol] = name
        return name

    for order in book.orders.values():
        name = new_name(order.symbol, order.contract)
        if name != order.symbol:
            order.symbol = name
            book.touch_order(order)
    for execution in book.executions.values():
        name = new_name(execution.fill.symbol, execution.fill.contract)
        if name != execution.fill.symbol:
            execution.fill = structs.replace(execution.fill, symbol=name)
            book.add_execution(execution)
    for key, position in list(book.positions.items()):
        name = new_name(position.symbol, position.contract)
        if name != position.symbol:
            position.symbol = name
            del book.positions[key]
            book.positions[position.ticket or name] = position
            book.changed["positions", key] = None
            book.changed["positions", position.ticket or name] = None
    return renamed
