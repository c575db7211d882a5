"""The front contract of each root, live: applies the roll rules to the platforms and writes the symbol directory.

It runs in the gateway process because a roll must be in the same journal as the orders: after a crash the journal says
for each order whether it was before or behind the roll. The symbol directory is then brought in line with the journal,
by one store that all adapters see.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from ....shm.durations import NS_PER_S
from ....shm.segment import SegmentError
from ....shm.symbols import DirectoryFullError, Symbol, SymbolDirectory, add_symbols, roll_symbol
from ...config import GatewayConfig
from ...engine import ContractChosen, ContractNews, ContractRecord, RollSpread
from ...errors import ConfigError
from ...instruments.contract_code import Contract, parse_code
from ...instruments.refusals import InstrumentRefused
from ...instruments.rollover import Rollover
from ...logs import Log
from ...messages import Hello
from ..markets import Markets
from ..quotes import DEAD_AFTER_NS, BoardQuote
from .decision import Readiness
from .tracker import ContractTracker, FirstContract, Roll, RollDates, RollWaits, WarmUp

_RETIRE_NS: Final = 60 * NS_PER_S
_MAX_WIDTH: Final = Decimal("0.01")
"""Widest spread between bid and ask, as a part of the price, that still gives a price."""


class LiveContracts:
    """Used by the gateway's thread. `step` about once a second; `apply` after its events are on disk."""

    def __init__(
        self,
        config: GatewayConfig,
        folder: Path,
        markets: Markets,
        log: Log,
    ) -> None:
        rollover = markets.rollover
        self._config = config
        self._folder = folder
        self._markets = markets
        self._log = log
        self._retire_at_ns = 0
        self._to_warm: dict[str, WarmUp] = {}
        self._pairs: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        futures = {each.symbol for each in markets.catalog.futures()}
        self._roots = config.rolling_roots(futures)
        for root in self._roots:
            if config.symbol(root).contract:
                _check_contract(f"contract of {root}", config.symbol(root).contract, (root,), rollover)
        for code in (*config.rollover.dates, *config.rollover.switch_at):
            _check_contract("a contract under rollover", code, futures, rollover)
        dates = RollDates(
            front=lambda root, now_ns: rollover.front_contract(root, _utc(now_ns)).code,
            switch_ns=lambda code: _switch_ns(rollover, code),
            fence_ns=lambda code: int(rollover.last_session_start(_parsed(code)).timestamp() * NS_PER_S),
        )
        self._tracker = ContractTracker(
            self._roots,
            dates,
            warm_ns=int(config.rollover.warm_s * NS_PER_S),
            fence_after_ns=int(config.rollover.fence_after_s * NS_PER_S),
        )

    def step(
        self, now_ns: int, contracts: Mapping[str, ContractRecord], hellos: Mapping[str, Hello]
    ) -> list[ContractChosen | ContractNews]:
        """Return the events for the engine: contracts chosen now, and rolls that wait.

        Args:
            contracts: those in the engine's state.
            hellos: the newest of each known account, by route.
        """

        def check_readiness(root: str, old: str, new: str) -> list[Readiness]:
            traders = [name for name, each in self._config.platforms.items() if each.enabled and root in each.symbols]
            return [self._readiness(name, root, new, now_ns, hellos) for name in traders]

        decided = {root: record.contract for root, record in contracts.items()}
        events: list[ContractChosen | ContractNews] = []
        for each in self._tracker.step(now_ns, decided, check_readiness):
            match each:
                case WarmUp():
                    self._to_warm[each.root] = each
                case FirstContract():
                    chosen = self._config.symbol(each.root).contract or each.contract
                    events.append(ContractChosen(root=each.root, contract=chosen))
                case Roll():
                    events.append(self._roll(each, now_ns, hellos))
                case RollWaits():
                    text = f"{each.root} does not roll from {each.old} to {each.new}, no platform moves: "
                    events.append(ContractNews(root=each.root, text=(text + "; ".join(each.reasons))[:512], waits=True))
        self._warm_up()
        return events

    def apply(self, contracts: Mapping[str, ContractRecord], now_ns: int) -> None:
        """Bring the symbol directory in line with the decisions. Call it only when they are on disk."""
        try:
            directory = SymbolDirectory.attach(self._folder)
            for root in self._roots:
                symbol_id, record = directory.id_of(root), contracts.get(root)
                if symbol_id is None or record is None:
                    continue
                entry = self._entry(directory, symbol_id, root)
                if entry.contract == record.contract:
                    continue
                # The old contract gets a name of its own first: a position that is still open in it must be quoted and
                # closed under that name when the root's name moves on. In a new run folder the directory does not know
                # the old contract any more; the journal does.
                old = entry.contract or record.previous
                if entry.contract or now_ns < self._markets.expiry_ns(old):
                    self._activate(directory, root, old)
                roll_symbol(self._folder, root, record.contract, now_ns if entry.contract else 0)
                self._log.info("contract in front", root=root, contract=record.contract, before=entry.contract)
            if not 0 < self._retire_at_ns - now_ns <= _RETIRE_NS:  # also when the clock was set back
                self._retire_at_ns = now_ns + _RETIRE_NS
                self._retire_expired(directory, now_ns)
        except (SegmentError, DirectoryFullError) as error:
            # Not made yet, or locked by another process for a moment: the next turn finds the same difference.
            self._log.warning("symbol directory cannot be written now", reason=str(error))

    def _readiness(self, platform: str, root: str, new: str, now_ns: int, hellos: Mapping[str, Hello]) -> Readiness:
        accounts = [hello for hello in hellos.values() if hello.platform == platform]
        faults = [fault for hello in accounts if (fault := self._markets.contract_fault(hello, new))]
        tick = self._markets.catalog[root].tick
        old_quote, new_quote = self._quote(platform, root, now_ns), self._quote(platform, new, now_ns)
        old_price, new_price = _middle(old_quote, tick), _middle(new_quote, tick)
        if old_price is not None and new_price is not None:
            self._pairs[platform, new] = old_price, new_price
        elif new_quote is not None:
            # A market that rolls while it is shut may show nonsense as quotes. Stops are moved by this spread, so the
            # last sound prices of both contracts are used instead.
            old_price, new_price = self._pairs.get((platform, new), (old_price, new_price))
        return Readiness(
            platform=platform,
            old_price=old_price,
            new_price=new_price,
            is_quoted=new_quote is not None,
            obstacle="; ".join(faults),
        )

    def _quote(self, platform: str, symbol: str, now_ns: int) -> BoardQuote | None:
        quote = self._markets.boards.latest(platform, symbol, now_ns)
        # Valid as long as the adapter vouches for it, however long ago it last moved: the market may be shut.
        if quote is None or now_ns - quote.true_ns > DEAD_AFTER_NS:
            return None
        return quote if quote.bid or quote.ask else None  # some platforms send 0 for "no quote"

    def _warm_up(self) -> None:
        """Have the next contracts subscribed; tried again at the next step while the directory is locked."""
        for root, step in list(self._to_warm.items()):
            try:
                self._activate(SymbolDirectory.attach(self._folder), root, step.new)
            except (SegmentError, DirectoryFullError) as error:
                self._log.warning("symbol directory cannot be written now", root=root, reason=str(error))
                continue
            del self._to_warm[root]
            self._log.info("next contract is warmed up", root=root, contract=step.new, front=step.old)

    def _activate(self, directory: SymbolDirectory, root: str, code: str) -> None:
        """Give a contract a name of its own in the directory: adapters subscribe every contract that has one."""
        root_id, code_id = directory.id_of(root), directory.id_of(code)
        if root_id is None:
            return
        if code_id is None:
            tick_size = self._entry(directory, root_id, root).tick_size
            add_symbols(self._folder, [Symbol(0, code, code, tick_size)])
        elif self._entry(directory, code_id, code).contract != code:
            roll_symbol(self._folder, code, code, 0)

    def _entry(self, directory: SymbolDirectory, symbol_id: int, name: str) -> Symbol:
        """Read an entry. One whose writer was killed in the middle of it is mended, and has no contract then."""
        try:
            return directory.entry(symbol_id)
        except RuntimeError as error:
            self._log.warning("entry of the symbol directory is mended", symbol=name, reason=str(error))
            return roll_symbol(self._folder, name, "", 0)

    def _retire_expired(self, directory: SymbolDirectory, now_ns: int) -> None:
        for entry in directory.entries():
            contract = parse_code(entry.name) if entry.contract == entry.name else None
            if contract is not None and contract.root in self._roots:
                expiry_ns = self._markets.expiry_ns(entry.name)
                if expiry_ns and now_ns >= expiry_ns:
                    roll_symbol(self._folder, entry.name, "", 0)
                    self._log.info("contract has expired and is no longer subscribed", contract=entry.name)

    def _roll(self, step: Roll, now_ns: int, hellos: Mapping[str, Hello]) -> ContractChosen:
        spreads = tuple(
            RollSpread(platform=each.platform, old_price=each.old_price, new_price=each.new_price, spread=each.spread)
            for each in step.platforms
        )
        self._to_warm.pop(step.root, None)
        self._pairs = {key: pair for key, pair in self._pairs.items() if key[1] != step.new}
        markets = [
            self._markets.context(hello, symbol, now_ns)
            for hello in hellos.values()
            if hello.platform in {each.platform for each in step.platforms}
            for symbol in (step.root, step.new)
        ]
        return ContractChosen(
            root=step.root,
            contract=step.new,
            old=step.old,
            policy=self._config.rollover.policy,
            spreads=spreads,
            markets=tuple(each for each in markets if each is not None),
            left_behind=step.left_behind,
        )


def _middle(quote: BoardQuote | None, tick: Decimal) -> Decimal | None:
    """Return the middle of a quote; None when it is not sound: a side of 0, crossed, or wider than both 1 % and twenty
    ticks. Stops are moved by the difference of two of these, so a wrong one would close positions.
    """
    if quote is None:
        return None
    if quote.bid is None or quote.ask is None:
        return (quote.bid or None) if quote.ask is None else (quote.ask or None)
    middle = (quote.bid + quote.ask) / 2
    widest = max(abs(middle) * _MAX_WIDTH, 20 * tick)
    is_sound = quote.bid and quote.ask and 0 <= quote.ask - quote.bid <= widest
    return middle if is_sound else None


def _check_contract(what: str, code: str, roots: Container[str], rollover: Rollover) -> None:
    """Raises ConfigError for a contract that no exchange lists: else it would be ignored silently."""
    contract = parse_code(code)
    if contract is None or contract.root not in roots:
        raise ConfigError(f"gateway_config.yaml: {what} was {code!r}; write root, month letter and year, such as NQH27")
    try:
        _switch_ns(rollover, code)
    except (InstrumentRefused, ConfigError) as error:
        raise ConfigError(f"gateway_config.yaml: {what} was {code!r}: {error}") from error


def _switch_ns(rollover: Rollover, code: str) -> int:
    return int(rollover.switch_at(_parsed(code)).timestamp() * NS_PER_S)


def _parsed(code: str) -> Contract:
    contract = parse_code(code)
    if contract is None:
        raise ConfigError(f"contract was {code!r}; write root, month letter and two-digit year, such as NQH27")
    return contract


def _utc(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns / NS_PER_S, UTC)
