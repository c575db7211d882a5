"""What a bridge was asked to send, and what it has answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ...core.messages import Instrument
from ...shm.symbols import Symbol
from .messages import Subscribe, Subscribed, SubscribedSymbol, WantedSymbol
from .ticks import TickIntake

_NO_ANSWER: Final = "the bridge has not answered yet; it counts as soon as it does"


class BridgeSymbols:
    """The subscription of one session. A symbol's ticks pass once its answer has come, for those before it in the
    stream may be of the contract that it stood for until then.
    """

    def __init__(self, intake: TickIntake) -> None:
        self.by_id: dict[int, Symbol] = {}
        self._intake = intake
        self._seq = 0
        self._wanted: dict[int, WantedSymbol] = {}
        self._awaited: set[int] = set()
        self._answers: dict[int, SubscribedSymbol] = {}
        self._continued: set[int] = set()
        intake.forbid_all()

    def make_subscribe(self, symbols: Sequence[Symbol], names: Mapping[str, str]) -> Subscribe:
        """What to send to the bridge; `sent` must be called with its number.

        Args:
            names: the platform's own name of each symbol; those without one are not asked for.
        """
        before, answers = self._wanted, self._answers
        self.by_id = {symbol.id: symbol for symbol in symbols if symbol.name in names}
        self._wanted, self._answers, self._continued = {}, {}, set()
        self._intake.forbid_all()
        for symbol_id, symbol in self.by_id.items():
            name = names[symbol.name]
            known = before.get(symbol_id)
            # The times of another contract's ticks mean nothing for this one.
            after_ns, after_count = self._intake.begin_symbol(symbol_id, f"{symbol.name}={name}")
            self._wanted[symbol_id] = WantedSymbol(
                symbol_id=symbol_id,
                symbol=symbol.name,
                platform_symbol=name,
                after_ns=after_ns,
                after_count=after_count,
            )
            if known is not None and known.platform_symbol == name and symbol_id in answers:
                self._apply_answer(answers[symbol_id])  # goes on without a pause
                self._continued.add(symbol_id)
        return Subscribe(symbols=tuple(self._wanted.values()))

    def sent(self, seq: int) -> None:
        """The subscribe message has this number: answers to earlier ones count no more."""
        self._seq = seq
        self._awaited = set(self._wanted)

    def apply_answers(self, answer: Subscribed) -> set[str]:
        """Answers of the bridge; the symbols, by our name, that they are for."""
        if answer.subscribe_seq != self._seq:
            return set()
        wanted = [each for each in answer.symbols if each.symbol_id in self._wanted]
        for each in wanted:
            self._awaited.discard(each.symbol_id)
            self._apply_answer(each)
        return {self._wanted[each.symbol_id].symbol for each in wanted}

    @property
    def complete(self) -> bool:
        """Whether every symbol has its answer."""
        return not self._awaited

    def refusals(self) -> dict[str, str]:
        """Symbols without data, by our name, and why."""
        reasons = {}
        for symbol_id, wanted in self._wanted.items():
            answer = self._answers.get(symbol_id)
            reason = _NO_ANSWER if answer is None else self._refusal(answer)
            if reason:
                reasons[wanted.symbol] = reason
        return reasons

    def gaps(self) -> dict[str, str]:
        """Symbols whose ticks do not go on, or not yet, where they ended, by our name, and what the bridge says."""
        return {
            self._wanted[symbol_id].symbol: answer.text
            for symbol_id, answer in self._answers.items()
            if self._wanted[symbol_id].after_ns and symbol_id not in self._continued
            if answer.accepted and not answer.resumed
        }

    def instruments(self, *, tradable: bool) -> tuple[Instrument, ...]:
        """What the platform says of each symbol that it gives; `tradable`: of those alone that take orders."""
        return tuple(
            msgspec.structs.replace(answer.instrument, contract=self.by_id[symbol_id].contract)
            for symbol_id, answer in self._answers.items()
            if answer.instrument is not None and not self._refusal(answer) and (answer.tradable or not tradable)
        )

    def _apply_answer(self, answer: SubscribedSymbol) -> None:
        self._answers[answer.symbol_id] = answer
        if self._refusal(answer):
            self._intake.forbid(answer.symbol_id)
        else:
            self._intake.allow(answer.symbol_id)

    def _refusal(self, answer: SubscribedSymbol) -> str:
        """Why this is no data for the symbol; empty when it is."""
        if not answer.accepted or answer.instrument is None:
            return answer.text or "refused without a reason"
        wanted = self._wanted[answer.symbol_id]
        given = (answer.instrument.symbol, answer.instrument.platform_symbol)
        if given != (wanted.symbol, wanted.platform_symbol):
            return f"asked for was {wanted.platform_symbol!r}, the bridge gives {given[1]!r} for {given[0]}"
        return ""
