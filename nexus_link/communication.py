"""Between a strategy and the gateway: sizes its ideas, names them so that none is traded twice, follows the fills.

adapter = NexusCommunicationAdapter(gateway, instruments, risk_usd=Decimal(50), strategy="mine", decide=my_rule)
adapter.start()
...for each quote:   adapter.handle_market_data(quote)        # asks my_rule, sends what it wants
...or directly:      adapter.send_trading_signal(idea)
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from ..core.errors import GatewayError
from ..core.instruments.currency import CurrencyConverter, Rate
from ..core.messages import Bracket, FanOut, FanOutKind, Reject, RejectCode, Side, Signal, Target
from ..shm.durations import NS_PER_MS
from .interface import NexusGatewayInterface
from .orders.ledger import OrderLedger
from .orders.outcomes import LinkStatus, SignalOutcome
from .sizing import InstrumentTable, Sizing, SizingRefused, rate_of_quote, size_position

if TYPE_CHECKING:
    from .market_view import Quote


class TradeIdea(Struct, frozen=True, kw_only=True):
    """What a strategy wants: a side, and where it would be wrong.

    Attributes:
        platforms: where.
        stop_distance, take_profit_distance: points from each platform's own quote; the size follows from the stop.
        tick_ns: `ts_recv_ns` of the tick that it was decided on. The same idea on the same tick is the same signal,
            also when it is decided anew after a restart.
    """

    symbol: str
    side: Side
    platforms: tuple[str, ...]
    stop_distance: Decimal
    tick_ns: int
    take_profit_distance: Decimal | None = None
    policy: FanOut = FanOut()


class Refusal(Struct, frozen=True):
    """Not sent, or not on this platform (empty: not at all), and why."""

    code: RejectCode
    text: str
    platform: str = ""


class TradeAnswer(Struct, frozen=True, kw_only=True):
    """What became of an idea. `outcome` None: nothing was sent, and `refusals` say why.

    Attributes:
        is_repeated: the same idea was sent before; the outcome is that of the first time.
        sizings: by platform.
    """

    outcome: SignalOutcome | None = None
    is_repeated: bool = False
    refusals: tuple[Refusal, ...] = ()
    sizings: dict[str, Sizing] = {}


class AdapterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`risk_usd`: lost at most on each platform when the stop is hit. `max_lots`: size at most, on each platform; the
    gateway refuses what exceeds its stage, it does not make it smaller. `strategy`: opens every signal's id.

    The three ages should not exceed those of config/risk_limits.yaml, which the gateway checks in any case.
    """

    risk_usd: Decimal
    strategy: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=16)]
    max_lots: Decimal | None = None
    lookalike_window_ms: int = 2_000
    max_quote_age_ms: int = 2_000
    max_rate_age_ms: int = 60_000


class NexusCommunicationAdapter:
    """See the module. One thread gives it market data and ideas; fills come in the interface's callback thread.

    Attributes:
        ledger: signals, legs, fills, refusals and what is held, for reports.
        rates: the currency rates in force; put a `Rate` of your own in where no live one is to be had.
    """

    def __init__(
        self,
        gateway: NexusGatewayInterface,
        instruments: InstrumentTable,
        settings: AdapterSettings,
        *,
        decide: Callable[[Quote], TradeIdea | None] | None = None,
        on_news: Callable[[SignalOutcome | Reject | LinkStatus], None] | None = None,
        ledger: OrderLedger | None = None,
        fixed_rates: tuple[Rate, ...] = (),
    ) -> None:
        """
        Args:
            decide: asked on each quote that `handle_market_data` is given.
            on_news: every outcome, refused change and change of the link, after it was booked; in the callback thread.
        """
        self.ledger = ledger or OrderLedger()
        self.rates = CurrencyConverter()
        for rate in fixed_rates:
            self.rates.put(rate)
        self._gateway = gateway
        self._instruments = instruments
        self._settings = settings
        self._decide = decide
        self._on_news = on_news
        self._quotes: dict[tuple[str, str], tuple[Quote, int]] = {}
        self._last_sent_ns: dict[tuple[str, Side], int] = {}

    def start(self, timeout_s: float = 5.0) -> bool:
        """Connect; False when the gateway is not there yet (it goes on trying, see `gateway.status`).

        Raises:
            OutboxError: another process of this name runs.
        """
        self._gateway.set_callbacks(on_outcome=self.handle_order_fill, on_reject=self._pass_on, on_link=self._pass_on)
        return self._gateway.connect(timeout_s)

    def handle_market_data(self, quote: Quote) -> TradeAnswer | None:
        """Take in a quote, and send what the strategy wants on it. None when it wants nothing."""
        self._quotes[quote.platform, quote.symbol] = (quote, time.time_ns())
        rate = rate_of_quote(quote, self._instruments, self._settings.max_rate_age_ms * NS_PER_MS)
        if rate is not None:
            self.rates.put(rate)
        idea = None if self._decide is None else self._decide(quote)
        return None if idea is None else self.send_trading_signal(idea)

    def send_trading_signal(self, idea: TradeIdea, timeout_s: float = 0.0) -> TradeAnswer:
        """Size an idea for each of its platforms and send it as one signal.

        A platform that cannot be sized is left out and named in `refusals`, the others trade, if the idea's policy lets
        them: nothing is sent when all had to trade, when the primary is left out, or when too few are left for the
        quorum. The gateway knows nothing of those left out.

        Args:
            timeout_s: how long to wait for the gateway's first word; 0 = not at all.

        Raises:
            OutboxError, SignalConflictError, SignalInvalidError, RuntimeError: as `NexusGatewayInterface.send_signal`;
                it was not sent.
        """
        signal_id = self.signal_id(idea)
        known = self._gateway.outcome(signal_id)
        if known is not None:
            return TradeAnswer(outcome=known, is_repeated=True)
        refusal = self._refuse_whole(idea)
        if refusal is not None:
            return self._refused(refusal)
        refusals: list[Refusal] = []
        sizings: dict[str, Sizing] = {}
        for platform in idea.platforms:
            sizing = self._size(idea, platform)
            if isinstance(sizing, Refusal):
                refusals.append(sizing)
            else:
                sizings[platform] = sizing
        lacking = _lacks(idea, sizings)
        if not sizings or lacking:
            because = (Refusal(refusals[0].code, lacking),) if sizings else ()
            return self._refused(*refusals, *because)
        try:
            signal = self._make_signal(idea, sizings)
        except ValueError as error:
            # Such as more lots than any message may ask for. What a strategy has thought up must not end its loop.
            return self._refused(*refusals, Refusal(RejectCode.MALFORMED, f"{error}; correct the idea"))
        for refused in refusals:
            self.ledger.note_refusal(refused.code)
        outcome = self.send(signal, timeout_s)
        return TradeAnswer(outcome=outcome, refusals=tuple(refusals), sizings=sizings)

    def send(self, signal: Signal, timeout_s: float = 0.0) -> SignalOutcome:
        """Send a signal that is made and sized already; see `NexusGatewayInterface.send_signal`."""
        is_new = self.ledger.note_signal(signal)  # before it leaves: its first fill may be told before this returns
        try:
            outcome = self._gateway.send_signal(signal, timeout_s)
        except GatewayError:
            if is_new:
                self.ledger.withdraw_signal(signal.signal_id)
            raise
        self._last_sent_ns[signal.symbol, signal.side] = time.monotonic_ns()
        return outcome

    def handle_order_fill(self, outcome: SignalOutcome) -> None:
        """Book the newest word on a signal. The interface calls it, in its callback thread."""
        self.ledger.take(outcome)
        self._pass_on(outcome)

    def signal_id(self, idea: TradeIdea) -> str:
        """The id of an idea: a function of strategy, symbol, side and tick, and of nothing else."""
        name = f"{self._settings.strategy}-{idea.symbol}-{idea.side}-{idea.tick_ns}"
        if len(name) <= 64:
            return name
        return f"{self._settings.strategy}-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"

    def _make_signal(self, idea: TradeIdea, sizings: Mapping[str, Sizing]) -> Signal:
        return Signal(
            signal_id=self.signal_id(idea),
            symbol=idea.symbol,
            side=idea.side,
            created_ns=time.time_ns(),
            targets=tuple(Target(platform=platform, quantity=sizing.lots) for platform, sizing in sizings.items()),
            quantity=max(sizing.lots for sizing in sizings.values()),
            # Distances, not prices: what is traded at another level has its stop there.
            bracket=Bracket(stop_distance=idea.stop_distance, take_profit_distance=idea.take_profit_distance),
            policy=idea.policy,
            tick_ns=idea.tick_ns,
            strategy=self._settings.strategy,
        )

    def _pass_on(self, news: SignalOutcome | Reject | LinkStatus) -> None:
        if self._on_news is not None:
            self._on_news(news)

    def _refused(self, *refusals: Refusal) -> TradeAnswer:
        for refusal in refusals:
            self.ledger.note_refusal(refusal.code)
        return TradeAnswer(refusals=refusals)

    def _refuse_whole(self, idea: TradeIdea) -> Refusal | None:
        for distance in (idea.stop_distance, idea.take_profit_distance):
            if distance is not None and not (isinstance(distance, Decimal) and distance.is_finite() and distance > 0):
                text = f"distance was {distance!r}, must be a Decimal above 0; correct it"
                return Refusal(RejectCode.RISK_NOT_MEASURABLE, text)
        if idea.symbol in self._gateway.unknown_symbols():
            text = f"a signal on {idea.symbol} has an unknown outcome; no new risk on it before that is cleared up"
            return Refusal(RejectCode.OUTCOME_UNKNOWN, text)
        last_ns = self._last_sent_ns.get((idea.symbol, idea.side))
        window_ms = self._settings.lookalike_window_ms
        if last_ns is not None and time.monotonic_ns() - last_ns < window_ms * NS_PER_MS:
            age_ms = (time.monotonic_ns() - last_ns) // NS_PER_MS
            text = f"{idea.side} {idea.symbol} was sent {age_ms} ms ago, limit one in {window_ms} ms; wait"
            return Refusal(RejectCode.LOOKALIKE_SIGNAL, text)
        if not idea.platforms:
            return Refusal(RejectCode.PLATFORM_UNKNOWN, "the idea names no platform; name at least one")
        return None

    def _refuse_quote(self, platform: str, idea: TradeIdea) -> Refusal | None:
        symbol = self._instruments.traded(platform, idea.symbol)
        quote, heard_ns = self._quotes.get((platform, symbol), (None, 0))
        limit_ms = self._settings.max_quote_age_ms
        age_ms = (time.time_ns() - heard_ns) // NS_PER_MS
        if quote is None or quote.is_stale or age_ms > limit_ms:
            measured = (
                "there is none" if quote is None else "its adapter is gone" if quote.is_stale else f"{age_ms} ms old"
            )
            text = f"quote of {symbol} on {platform}: {measured}, limit {limit_ms} ms; restore the feed"
            return Refusal(RejectCode.STALE_QUOTE, text, platform)
        if not math.isfinite(quote.ask if idea.side is Side.BUY else quote.bid):
            text = f"quote of {symbol} on {platform} was bid {quote.bid}, ask {quote.ask}; one side is missing"
            return Refusal(RejectCode.BAD_QUOTE, text, platform)
        return None

    def _size(self, idea: TradeIdea, platform: str) -> Sizing | Refusal:
        refusal = self._refuse_quote(platform, idea)
        if refusal is not None:
            return refusal
        settings = self._settings
        try:
            instrument = self._instruments.require(platform, idea.symbol)
            return size_position(
                settings.risk_usd, idea.stop_distance, instrument, self.rates, time.time_ns(), settings.max_lots
            )
        except SizingRefused as refused:
            return Refusal(refused.code, str(refused), platform)


def _lacks(idea: TradeIdea, sizings: Mapping[str, Sizing]) -> str:
    """What an idea's policy misses when only the sized platforms trade; empty when it misses nothing."""
    policy, out = idea.policy, [platform for platform in idea.platforms if platform not in sizings]
    if not out:
        return ""
    if policy.kind is FanOutKind.ALL_OR_FLATTEN:
        return f"all platforms had to trade, {', '.join(out)} cannot; nothing was sent"
    if policy.kind is FanOutKind.PRIMARY_THEN_HEDGE and idea.platforms[0] in out:
        return f"the primary {out[0]} cannot trade, and a hedge must not take its place; nothing was sent"
    if policy.kind is FanOutKind.QUORUM and len(sizings) < policy.quorum:
        return f"{len(sizings)} platforms can trade, the quorum is {policy.quorum}; nothing was sent"
    return ""
