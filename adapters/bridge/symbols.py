"""The symbols subscribed at a bridge, and its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ...core.errors import ConfigError
from ...core.instruments.refusals import SymbolRefused
from ...core.logs import Log
from ...core.messages import Instrument
from ...shm.symbols import Symbol
from .messages import Subscribe, Subscribed, SubscribedSymbol, WantedSymbol
from .ticks import TickIntake

_NO_ANSWER: Final = "the bridge has not answered yet; it counts as soon as it does"


class BridgeSymbols:
    """The subscription of one session.

    A symbol's ticks pass once its answer has arrived: earlier ticks in the stream may be of the contract that the
    symbol stood for before.
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
        """Return the message to send to the bridge; call `sent` with its sequence number.

        Args:
            names: the platform's own name of each symbol; symbols without one are not subscribed.
        """
        before, answers = self._wanted, self._answers
        self.by_id = {symbol.id: symbol for symbol in symbols if symbol.name in names}
        self._wanted, self._answers, self._continued = {}, {}, set()
        self._intake.forbid_all()
        for symbol_id, symbol in self.by_id.items():
            name = names[symbol.name]
            known = before.get(symbol_id)
            # Resets the newest time when the symbol now means another contract: resuming there would skip or repeat.
            after_ns, after_count = self._intake.begin_symbol(symbol_id, f"{symbol.name}={name}")
            self._wanted[symbol_id] = WantedSymbol(
                symbol_id=symbol_id,
                symbol=symbol.name,
                platform_symbol=name,
                after_ns=after_ns,
                after_count=after_count,
            )
            if known is not None and known.platform_symbol == name and symbol_id in answers:
                self._apply_answer(answers[symbol_id])  # unchanged: its ticks continue without a pause
                self._continued.add(symbol_id)
        return Subscribe(symbols=tuple(self._wanted.values()))

    def sent(self, seq: int) -> None:
        """Set the number of the subscribe message; answers to earlier ones are ignored from now on."""
        self._seq = seq
        self._awaited = set(self._wanted)

    def apply_answers(self, answer: Subscribed) -> set[str]:
        """Apply the bridge's answers; returns our names of the symbols that they are for."""
        if answer.subscribe_seq != self._seq:
            return set()
        wanted = [each for each in answer.symbols if each.symbol_id in self._wanted]
        for each in wanted:
            self._awaited.discard(each.symbol_id)
            self._apply_answer(each)
        return {self._wanted[each.symbol_id].symbol for each in wanted}

    @property
    def complete(self) -> bool:
        """Whether every symbol has an answer."""
        return not self._awaited

    def refusals(self) -> dict[str, str]:
        """Return the symbols without data, by our name, with the reason."""
        reasons = {}
        for symbol_id, wanted in self._wanted.items():
            answer = self._answers.get(symbol_id)
            reason = _NO_ANSWER if answer is None else self._refusal(answer)
            if reason:
                reasons[wanted.symbol] = reason
        return reasons

    def gaps(self) -> dict[str, str]:
        """Return the symbols whose ticks may have a gap since the last session, by our name, with the bridge's text."""
        return {
            self._wanted[symbol_id].symbol: answer.text
            for symbol_id, answer in self._answers.items()
            if self._wanted[symbol_id].after_ns and symbol_id not in self._continued
            if answer.accepted and not answer.resumed
        }

    def instruments(self, *, tradable: bool) -> tuple[Instrument, ...]:
        """Return the platform's description of each symbol with data; `tradable`: only of those that accept orders."""
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
        """Return why this answer gives no data for the symbol; empty when it does."""
        if not answer.accepted or answer.instrument is None:
            return answer.text or "refused without a reason"
        wanted = self._wanted[answer.symbol_id]
        given = (answer.instrument.symbol, answer.instrument.platform_symbol)
        if given != (wanted.symbol, wanted.platform_symbol):
            return f"asked for was {wanted.platform_symbol!r}, the bridge gives {given[1]!r} for {given[0]}"
        return answer.instrument.find_fault()


def name_symbols(
    symbols: Sequence[Symbol], name_of: Callable[[Symbol], str], platform: str, log: Log
) -> dict[str, str]:
    """Return the platform's name of each symbol that has one there; the others are logged.

    Args:
        name_of: the platform's name of a symbol; raises SymbolRefused when there is none.

    Raises:
        ConfigError: two symbols have the same name at the platform; its ticks could be of either.
    """
    names: dict[str, str] = {}
    for symbol in symbols:
        try:
            name = name_of(symbol)
        except SymbolRefused as refusal:
            log.warning("symbol without a name at the platform", symbol=symbol.name, reason=str(refusal))
            continue
        if name in names.values():
            raise ConfigError(
                f"platform {platform!r}: {name!r} would be two of our symbols, {symbol.name} the second; "
                "correct settings.names or the symbol mappings"
            )
        names[symbol.name] = name
    return names
