"""From a strategy's ideas to signals: sizes them, gives them ids so that none trades twice, records the outcomes.

settings = AdapterSettings(risk_usd=Decimal(50), strategy="mine")
adapter = NexusCommunicationAdapter(gateway, instruments, settings, decide=my_rule)
adapter.start()
adapter.handle_market_data(quote)           # for each quote: calls my_rule, sends the idea that it returns
adapter.send_trading_signal(idea)           # or directly
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
from ..shm import host
from ..shm.durations import NS_PER_MS
from .interface import NexusGatewayInterface
from .orders.ledger import OrderLedger
from .orders.outcomes import LinkStatus, SignalOutcome
from .sizing import InstrumentTable, Sizing, SizingRefused, rate_of_quote, size_position

if TYPE_CHECKING:
    from .market_view import Quote


class TradeIdea(Struct, frozen=True, kw_only=True):
    """A side and a stop distance, to be sized and sent to each platform.

    Attributes:
        platforms: where to trade it; the first is the primary of `PRIMARY_THEN_HEDGE`.
        stop_distance, take_profit_distance: points from each platform's own quote; the size follows from the stop.
        tick_ns: `ts_recv_ns` of the tick that it was decided on. It is part of the signal id, so a restarted strategy
            that makes the same decision on the same tick does not trade it twice.
    """

    symbol: str
    side: Side
    platforms: tuple[str, ...]
    stop_distance: Decimal
    tick_ns: int
    take_profit_distance: Decimal | None = None
    policy: FanOut = FanOut()


class Refusal(Struct, frozen=True):
    """Reason why an idea was not sent to a platform; `platform` empty = to none."""

    code: RejectCode
    text: str
    platform: str = ""


class TradeAnswer(Struct, frozen=True, kw_only=True):
    """Answer to `send_trading_signal`.

    Attributes:
        outcome: of the signal so far; None = nothing was sent, see `refusals`.
        is_repeated: the same idea was sent before; `outcome` is that signal's.
        refusals: of the idea as a whole, or of platforms that were left out.
        sizings: by platform, of those that the signal was sent to.
    """

    outcome: SignalOutcome | None = None
    is_repeated: bool = False
    refusals: tuple[Refusal, ...] = ()
    sizings: dict[str, Sizing] = {}


class AdapterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `NexusCommunicationAdapter`.

    Attributes:
        risk_usd: most that each platform may lose when the stop is hit.
        strategy: first part of each signal's id.
        max_lots: largest size on each platform; None = no bound. The gateway refuses a signal above its stage's size,
            it does not reduce it.
        lookalike_window_ms: a second signal on the same symbol and side within this time is refused.
        max_quote_age_ms, max_rate_age_ms: older quotes and currency rates are not used.

    The three times should not exceed those of config/risk_limits.yaml, which the gateway checks in any case.
    """

    risk_usd: Decimal
    strategy: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$", max_length=16)]
    max_lots: Decimal | None = None
    lookalike_window_ms: int = 2_000
    max_quote_age_ms: int = 2_000
    max_rate_age_ms: int = 60_000


class NexusCommunicationAdapter:
    """See the module. One thread calls it; outcomes come in the interface's callback thread.

    Attributes:
        ledger: signals, legs, fills, refusals and lots held, for reports.
        rates: currency rates, updated by the quotes; put in a `Rate` of your own where no platform quotes one.
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
            decide: called with each quote that `handle_market_data` is given; returns the idea to send, or None.
            on_news: called in the callback thread with each outcome, refused change and change of the link, after the
                ledger has recorded it.
            ledger: None = a new one.
            fixed_rates: put into `rates` at once.
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
        """Connect; False when the link is not up yet (it keeps trying, see `gateway.status`).

        Raises:
            OutboxError: another process of this name runs.
        """
        self._gateway.set_callbacks(on_outcome=self.handle_order_fill, on_reject=self._pass_on, on_link=self._pass_on)
        return self._gateway.connect(timeout_s)

    def handle_market_data(self, quote: Quote) -> TradeAnswer | None:
        """Store a quote, call `decide` with it, and send the idea that it returns; None when it returns none."""
        self._quotes[quote.platform, quote.symbol] = (quote, host.steady_ns())
        rate = rate_of_quote(quote, self._instruments, self._settings.max_rate_age_ms * NS_PER_MS)
        if rate is not None:
            self.rates.put(rate, time.time_ns())
        idea = None if self._decide is None else self._decide(quote)
        return None if idea is None else self.send_trading_signal(idea)

    def send_trading_signal(self, idea: TradeIdea, timeout_s: float = 0.0) -> TradeAnswer:
        """Size an idea for each of its platforms and send it as one signal.

        A platform that cannot be sized is left out and named in `refusals`; the others trade if the idea's policy lets
        them. Nothing is sent when the policy needs all platforms, the primary or a quorum, and it is not met.

        Args:
            timeout_s: longest wait for the gateway's first response; 0 = none.

        Raises:
            OutboxError, SignalConflictError, SignalInvalidError, RuntimeError: as `NexusGatewayInterface.send_signal`;
                it was not sent.
        """
        signal_id = self.signal_id(idea)
        known = self._gateway.outcome(signal_id)
        if known is not None:  # before all checks: they would refuse a repetition as a look-alike of itself
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
        # Checked here, since the gateway is not told which platforms were left out: it would take those that remain as
        # the whole and trade a hedge without its primary.
        broken = _broken_policy(idea, sizings)
        if not sizings or broken:
            because = (Refusal(refusals[0].code, broken),) if sizings else ()
            return self._refused(*refusals, *because)
        try:
            signal = self._make_signal(idea, sizings)
        except ValueError as error:
            # For instance more lots than a message can carry. An idea that is refused must not end the strategy's loop.
            return self._refused(*refusals, Refusal(RejectCode.MALFORMED, f"{error}; correct the idea"))
        for refused in refusals:
            self.ledger.note_refusal(refused.code)
        outcome = self.send(signal, timeout_s)
        return TradeAnswer(outcome=outcome, refusals=tuple(refusals), sizings=sizings)

    def send(self, signal: Signal, timeout_s: float = 0.0) -> SignalOutcome:
        """Record and send a signal of your own; see `NexusGatewayInterface.send_signal`."""
        is_new = self.ledger.note_signal(signal)  # before it is sent: its first fill may be reported first
        try:
            outcome = self._gateway.send_signal(signal, timeout_s)
        except GatewayError:
            if is_new:
                self.ledger.withdraw_signal(signal.signal_id)
            raise
        self._last_sent_ns[signal.symbol, signal.side] = time.monotonic_ns()
        return outcome

    def handle_order_fill(self, outcome: SignalOutcome) -> None:
        """Record a signal's new outcome. The interface calls it, in its callback thread."""
        self.ledger.apply_outcome(outcome)
        self._pass_on(outcome)

    def signal_id(self, idea: TradeIdea) -> str:
        """The signal id of an idea: a function of strategy, symbol, side and `tick_ns` only."""
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
            # Distances, not prices: platforms quote the same symbol at different levels (a CFD and its future).
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
        quote, received_ns = self._quotes.get((platform, symbol), (None, 0))
        limit_ms = self._settings.max_quote_age_ms
        age_ms = (host.steady_ns() - received_ns) // NS_PER_MS
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


def _broken_policy(idea: TradeIdea, sizings: Mapping[str, Sizing]) -> str:
    """The requirement of the idea's policy that the sized platforms do not meet; empty if they meet it."""
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
