"""A runnable trading program to copy and adapt.

    python nexus_link/nexus_ai.py --gateway

reads the rings of a running gateway, computes features per symbol in compiled code, sends a signal when a simple rule
(`trend_rule.py`) finds one, and prints its outcome. Without an order gateway it reads and prints market data only. To
make it yours, replace `update_features` in `features.py` and `decide_side` in `trend_rule.py`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs
from nexus_gateway.core.config import GATEWAY_NAME, LAUNCHER_NAME, RECORDER_NAME, GatewayConfig
from nexus_gateway.core.errors import ConfigError, GatewayError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.messages import Reject
from nexus_gateway.core.process import LaunchFile
from nexus_gateway.nexus_link.communication import AdapterSettings, NexusCommunicationAdapter, TradeIdea
from nexus_gateway.nexus_link.example import feature_reader
from nexus_gateway.nexus_link.example.demo_signal import DemoSignal, DemoTrader, read_demo_signal
from nexus_gateway.nexus_link.example.descriptions import (
    describe_answer,
    describe_market,
    describe_orders,
    describe_outcome,
)
from nexus_gateway.nexus_link.example.feature_reader import FeatureReader
from nexus_gateway.nexus_link.example.trend_rule import TrendRule, decide_side, stop_distance
from nexus_gateway.nexus_link.interface import (
    DEFAULT_NAME,
    LinkStatus,
    NexusGatewayInterface,
    SignalOutcome,
    options_of_config,
)
from nexus_gateway.nexus_link.market_view import Quote
from nexus_gateway.nexus_link.orders.ledger import OrderLedger
from nexus_gateway.nexus_link.sizing import InstrumentTable
from nexus_gateway.shm import host
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.histogram import observe_value
from nexus_gateway.shm.idle import STRATEGIES, Idle, make_idle
from nexus_gateway.shm.reader import Start
from nexus_gateway.shm.segment import SegmentError

if TYPE_CHECKING:
    from nexus_gateway.core.process import ProcessContext

COUNTERS: Final = (*feature_reader.COUNTERS, "signals_sent", "legs_filled", "outcomes_unknown")
HISTOGRAMS: Final = (*feature_reader.HISTOGRAMS, "tick_to_fill_ns")


class TradePlan(Struct, frozen=True, kw_only=True):
    """Settings of the trading half.

    Attributes:
        platforms: empty = each that quotes the symbol.
        risk_usd, max_lots: on each platform, see `AdapterSettings`.
        name, outbox: of the link, see `gateway_options`.
        demo: send only this signal, once; the rule is not used.
    """

    symbol: str = "MNQ"
    platforms: tuple[str, ...] = ()
    risk_usd: Decimal = Decimal(50)
    max_lots: Decimal | None = Decimal(1)
    name: str = DEFAULT_NAME
    outbox: Path | None = None
    rule: TrendRule = TrendRule()
    demo: DemoSignal | None = None


class Trader:
    """The trading half: applies the rule to the features after each step, sends its signal and shows the outcomes."""

    def __init__(
        self,
        reader: FeatureReader,
        config: GatewayConfig,
        plan: TradePlan,
        page: CountersPage,
        show: Callable[[str], None],
    ) -> None:
        own_file = config.orders.instruments_file
        symbols = {name: platform.symbols for name, platform in config.platforms.items()}
        self._instruments = InstrumentTable(
            load_catalog(None if own_file is None else Path(own_file).expanduser()), symbols, config.stand_ins
        )
        self._reader = reader
        self._plan = plan
        self._show = show
        self._histogram = page.histogram_address("tick_to_fill_ns")
        self._signals_sent = page.counter("signals_sent")
        self._legs_filled = page.counter("legs_filled")
        self._unknown = page.counter("outcomes_unknown")
        self.gateway = NexusGatewayInterface(options_of_config(config, name=plan.name, outbox=plan.outbox))
        self.adapter = NexusCommunicationAdapter(
            self.gateway,
            self._instruments,
            AdapterSettings(risk_usd=plan.risk_usd, max_lots=plan.max_lots, strategy=plan.name[:16]),
            on_news=self._handle_news,
            ledger=OrderLedger(self._time_first_fill),
        )
        self._demo = DemoTrader(plan.demo, self.gateway, reader.view, self._instruments) if plan.demo else None
        self._next_idea_s = 0.0
        reader.add_to_report = lambda: {"orders": self.adapter.ledger.summarize()}

    def start(self) -> None:
        """Begin to connect; market data is read meanwhile. Raises OutboxError: the name is in use."""
        self.adapter.start(timeout_s=0.0)

    def turn(self) -> None:
        """Send a signal if the rule finds one. Returns at once; outcomes come to `_handle_news`."""
        if self._demo is not None:
            signal = self._demo.next_signal()
            if signal is not None:
                self._signals_sent.add()
                self._show(describe_outcome(self.adapter.send(signal)))
            return
        # Without a link the signal would wait in the outbox and be sent later, decided on an old price.
        if time.monotonic() < self._next_idea_s or not self.gateway.status.is_up:
            return
        idea = self._make_idea()
        if idea is not None:
            self._next_idea_s = time.monotonic() + self._plan.rule.pause_s
            answer = self.adapter.send_trading_signal(idea)
            self._signals_sent.add(answer.outcome is not None and not answer.is_repeated)
            self._show(describe_answer(idea, answer))

    def close(self) -> None:
        """End the link; signals without an answer stay in the outbox."""
        self.gateway.close()

    def _make_idea(self) -> TradeIdea | None:
        row = self._reader.features_of(self._plan.symbol)
        side = None if row is None else decide_side(self._plan.rule, row)
        if side is None:
            return None
        quotes = self._feed_quotes()
        if not quotes:
            return None
        instrument = self._instruments.require(quotes[0].platform, self._plan.symbol)
        return TradeIdea(
            symbol=self._plan.symbol,
            side=side,
            platforms=tuple(quote.platform for quote in quotes),
            stop_distance=stop_distance(self._plan.rule, row, instrument.tick),
            tick_ns=max(quote.ts_recv_ns for quote in quotes),
        )

    def _feed_quotes(self) -> list[Quote]:
        """Give the adapter the newest quotes of the symbol and of all currency rates; return those of the symbol."""
        view, quotes = self._reader.view, []
        for platform in self._plan.platforms or view.platforms:
            quote = view.latest(self._instruments.traded(platform, self._plan.symbol), platform)
            if quote is not None:
                self.adapter.handle_market_data(quote)
                quotes.append(quote)
        for symbol in self._instruments.rate_symbols():
            quote = view.latest(symbol)
            if quote is not None:
                self.adapter.handle_market_data(quote)
        return quotes

    def _handle_news(self, news: SignalOutcome | Reject | LinkStatus) -> None:
        """Show an outcome, reject or change of the link; called in the interface's callback thread."""
        if isinstance(news, SignalOutcome):
            self._unknown.set(len(self.gateway.unknown_symbols()))
            self._show(describe_outcome(news))
        elif isinstance(news, LinkStatus):
            if news.is_up:
                self._show(f"gateway is there: stage {news.stage}, kill switch {news.kill_level.name.lower()}")
            else:
                self._show(f"no order gateway: {news.text}; market data only")
        else:
            self._show(f"refused [{news.code}] {news.platform}: {news.text}")

    def _time_first_fill(self, latency_ns: int) -> None:
        observe_value(self._histogram, latency_ns)
        self._legs_filled.add()


def main_with_gateway(
    folder: Path, idle: Idle, seconds: float | None, show: Callable[[str], None], plan: TradePlan | None
) -> int:
    """Read a running gateway's rings until Ctrl-C or for `seconds`, trade by `plan` (None = do not trade), and show the
    market once a second. Returns the exit code, see `main`.
    """
    config = find_config(folder)
    name = DEFAULT_NAME if plan is None else plan.name
    if name in (*config.platforms, GATEWAY_NAME, RECORDER_NAME, LAUNCHER_NAME):
        show(f"cannot start: the name was {name!r}, which is that of a process of the gateway; use another --name")
        return 2
    try:
        page = CountersPage.create(folder, name, COUNTERS, HISTOGRAMS)
    except (SegmentError, FileNotFoundError, ValueError) as error:
        show(f"cannot start: {error}")
        return 1
    reader = FeatureReader(folder, page, idle)
    trader = None
    try:
        if plan is not None:
            trader = Trader(reader, config, plan, page, show)
            trader.start()
        stopping = threading.Event()
        host.on_stop_request(stopping.set)
        end_s = None if seconds is None else time.monotonic() + seconds
        show_at_s = time.monotonic() + 1.0
        while not stopping.is_set() and (end_s is None or time.monotonic() < end_s):
            reader.step(0.1)
            if trader is not None:
                trader.turn()
            if time.monotonic() >= show_at_s:
                show_at_s += 1.0
                show(describe_market(reader.summarize()))
    except GatewayError as error:
        show(f"cannot trade: {error}")
        return 1
    finally:
        if trader is not None:
            trader.close()
        reader.close()
        page.close()
    if trader is not None:
        show(describe_orders(trader.adapter.ledger.summarize()))
    return 0


def run_supervised(context: ProcessContext) -> int:
    """Entry for the launcher: the example as one of the gateway's processes.

    It sends only the signal in its arguments, if there is one: `{"demo_signal": {...}}`, see `DemoSignal`.
    """
    page = context.open_counters(COUNTERS, HISTOGRAMS)
    # In its first life it reads every record from the first on; after a restart, the oldest that are still there.
    start: Start = "first" if page.segment.field("incarnation") == 1 else "oldest"
    reader = FeatureReader(context.run_folder, page, make_idle(context.config.idle), start=start)
    demo = read_demo_signal(context.arguments)
    trader = None
    try:
        if demo is not None:
            # In the run folder, not in the user's data folder: the next gateway must not get the demo's signals.
            plan = TradePlan(demo=demo, name=context.name, outbox=context.run_folder / f"{context.name}.outbox")
            trader = Trader(reader, context.config, plan, page, lambda text: context.log.info("orders", text=text))
            trader.start()
        while not context.stopping:
            reader.step(0.1)
            if trader is not None:
                trader.turn()
            context.beat()
        while reader.step(0.0):
            pass  # the launcher has stopped the adapters first: read and count their last records
    finally:
        if trader is not None:
            trader.close()
        reader.close()
    return 0


def find_config(folder: Path) -> GatewayConfig:
    """The configuration of the launcher of this run folder; the defaults when there is none."""
    try:
        return LaunchFile.read(folder).config
    except ConfigError:
        return structs.replace(GatewayConfig(), run_folder=str(folder.absolute()))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The script's options."""
    parser = argparse.ArgumentParser(description="NEXUS example: market data from the rings, signals to the gateway.")
    parser.add_argument("--gateway", action="store_true", required=True, help="use a running gateway")
    parser.add_argument("--run-folder", type=Path, default=host.default_run_folder(), help="the gateway's run folder")
    parser.add_argument("--idle", choices=sorted(STRATEGIES), default="backoff", help="what to do while nothing comes")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so long; default: at Ctrl-C")
    parser.add_argument("--no-orders", action="store_true", help="market data only")
    parser.add_argument("--symbol", default="MNQ", help="universal name to trade; default: MNQ")
    parser.add_argument("--platforms", default="", help="such as mt5,nt8; default: each that quotes the symbol")
    parser.add_argument(
        "--risk-usd", type=_positive, default=Decimal(50), help="lost at most per platform; default: 50"
    )
    parser.add_argument("--max-lots", type=_positive, default=Decimal(1), help="size at most per platform; default: 1")
    parser.add_argument("--name", default=DEFAULT_NAME, help="of this NEXUS: one process each; default: nexus")
    return parser.parse_args(arguments)


def _positive(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value <= 0:
        raise argparse.ArgumentTypeError(f"was {text!r}, must be a number above 0")
    return value


def main() -> int:
    """Exit codes: 0 ended as asked, 1 no gateway or another NEXUS is attached, 2 wrong options."""
    options = parse_arguments(sys.argv[1:])
    host.sharpen_timers()
    plan = None
    if not options.no_orders:
        plan = TradePlan(
            symbol=options.symbol,
            platforms=tuple(name for name in options.platforms.split(",") if name),
            risk_usd=options.risk_usd,
            max_lots=options.max_lots,
            name=options.name,
        )
    return main_with_gateway(options.run_folder, make_idle(options.idle), options.seconds, print, plan)


if __name__ == "__main__":
    sys.exit(main())
