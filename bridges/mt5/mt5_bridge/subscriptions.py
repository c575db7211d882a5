"""Open the subscribed symbols, send their ticks, report a tick history that stands still."""

from __future__ import annotations

import math
import time

from .config import Config
from .connection import Link
from .constants import MAX_WAITING_TICKS, MISSING_S, NS_PER_MS, SYNCHRONISE_S, WAIT_S
from .descriptions import SymbolNames
from .errors import Breach, NotSynchronised, SymbolRefused
from .fields import Body
from .server_clock import ClockGauge, ServerClock
from .session import Session
from .symbols import SymbolFacts, describe_instrument, open_symbol
from .terminal import Terminal
from .ticks import HOLE, QuoteGate, Rows, Stream, TickReader


class Subscriptions:
    """Answers `subscribe` and sends the ticks of the subscribed symbols.

    Attributes:
        streams: by symbol id.
    """

    def __init__(
        self,
        config: Config,
        terminal: Terminal,
        clock: ServerClock,
        names: SymbolNames,
        gauge: ClockGauge,
        session: Session,
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self._config = config
        self._terminal = terminal
        self._clock = clock
        self._names = names
        self._session = session
        self._gate = QuoteGate(config.gate_locked, config.quote_hours)
        self._reader = TickReader(terminal, clock, gauge, self._gate, config.poll_s)
        self._gated_reported = 0

    def clear(self) -> None:
        """Forget all subscriptions: the session has ended."""
        self.streams.clear()
        self._names.set({})

    def subscribe(self, link: Link, body: Body, markets: dict[str, SymbolFacts]) -> None:
        """Replace the subscriptions, answer symbol by symbol, fill `markets` with what orders need of each.

        Raises:
            Breach: a symbol id came twice.
            CallFailed, TerminalLost: see `Terminal.call`.
        """
        wanted = {each["symbol_id"]: each for each in body["symbols"]}
        if len(wanted) != len(body["symbols"]):
            raise Breach("a symbol_id came twice")
        before, self.streams = self.streams, {}
        kept = {
            symbol_id
            for symbol_id, stream in before.items()
            if symbol_id in wanted and wanted[symbol_id]["platform_symbol"] == stream.name
        }
        link.forget_ticks(before.keys() - kept)
        markets.clear()
        self._names.set({each["platform_symbol"]: each["symbol"] for each in body["symbols"]})
        until_s = time.monotonic() + SYNCHRONISE_S
        for symbol_id, each in wanted.items():
            answer, records = self._open_stream(
                each, before[symbol_id] if symbol_id in kept else None, until_s, markets
            )
            link.queue({"type": "subscribed", "subscribe_seq": link.received + 1, "symbols": [answer]})
            if records is not None:
                link.queue_ticks(symbol_id, records)
            # Send now: loading the next symbol's history may take long.
            link.flush(time.monotonic())

    def poll(self, now_s: float) -> None:
        """Read the ticks of the symbol that is due first, if one is due. Raises TerminalLost."""
        link = self._session.link
        assert link is not None
        if not self.streams or not self._config.has_ticks:
            return
        stream = min(self.streams.values(), key=lambda each: each.due_s)
        if stream.due_s > now_s:
            return
        if link.ticks_waiting > MAX_WAITING_TICKS or not self._clock.is_known:
            # The terminal keeps the ticks until they are read.
            stream.due_s = now_s + 0.01
            return
        was_in_trouble = stream.trouble
        records = self._reader.poll(stream, now_s)
        if records is not None:
            link.queue_ticks(stream.symbol_id, records)
        if stream.trouble and stream.trouble != was_in_trouble:
            self._report_stopped(stream, f"no ticks, {stream.trouble}")
        if stream.has_hole:
            stream.has_hole = False
            self._session.notice("error", f"{stream.symbol}: {HOLE}")
        if -math.inf < stream.missing_since_s < now_s - MISSING_S:
            assert stream.cursor is not None
            stream.missing_since_s = -math.inf  # reported once
            text = f"the terminal's history does not show {stream.cursor.missing} ticks any more that were sent"
            self._session.notice("warning", f"{stream.symbol}: {text}")
        late = 0 if stream.cursor is None else stream.cursor.late
        if late > stream.late_reported:
            link.ticks_dropped += late - stream.late_reported
            self._session.notice(
                "warning", f"{stream.symbol}: {late - stream.late_reported} ticks came too late to be sent"
            )
            stream.late_reported = late

    def find_lags(self) -> None:
        """Report symbols whose quote moves while their history stands still; twice in a row, for a tick may be late."""
        for stream in self.streams.values():
            stream.lagging = stream.lagging + 1 if self._reader.lags(stream) else 0
            if stream.lagging == 2:
                self._report_stopped(stream, "the terminal has quotes, but no ticks in its history")

    def count_gated(self) -> None:
        """Report how many quotes were discarded since the last time."""
        if self._gate.gated > self._gated_reported:
            count, self._gated_reported = self._gate.gated - self._gated_reported, self._gate.gated
            self._session.notice("info", f"{count} quotes were none (crossed, or outside the hours): sent as not known")

    def _open_symbol(self, wanted: Body, until_s: float) -> tuple[SymbolFacts, Body]:
        """Facts for orders, and `instrument` of the protocol. Waits until `until_s` for a symbol that was just selected
        and is not synchronised yet. Raises SymbolRefused, ValueError.
        """
        assert self._terminal.account is not None
        currency = self._terminal.account.currency
        while True:
            now_ms = self._clock.to_server_ms(time.time_ns() // NS_PER_MS)
            info = open_symbol(self._terminal, wanted["platform_symbol"], now_ms)
            try:
                market = SymbolFacts(info)
                return market, describe_instrument(info, market, wanted["symbol"], currency, self._clock)
            except NotSynchronised:
                if time.monotonic() >= until_s:
                    raise
            time.sleep(WAIT_S)

    def _open_stream(
        self, wanted: Body, before: Stream | None, until_s: float, markets: dict[str, SymbolFacts]
    ) -> tuple[Body, Rows | None]:
        """Open one symbol; returns the answer, and a record of its state for a new one."""
        answer: Body = {"symbol_id": wanted["symbol_id"], "accepted": False}
        try:
            market, instrument = self._open_symbol(wanted, until_s)
        except (SymbolRefused, ValueError) as error:
            self._session.log.say("warning", f"{wanted['symbol']}: {error}")
            return {**answer, "text": str(error)[:512]}, None
        markets[wanted["symbol"]] = market
        if instrument["point_value"] is None and before is None:
            words = f"its profit is in {instrument['currency']}, which is not the account's currency"
            self._session.notice(
                "warning", f"{wanted['symbol']}: what a point is worth is not known here ({words}), compare it"
            )
        stream, resumed, text = before, False, ""
        if stream is None:
            cursor = None
            if self._config.has_ticks and self._clock.is_known:
                cursor, resumed, text = self._reader.begin(wanted)
            stream = Stream(wanted, cursor)
            if text:
                self._session.notice("warning", f"{wanted['symbol']} does not go on where it ended: {text}")
        else:
            resumed = True
            stream.symbol = wanted["symbol"]
        self.streams[stream.symbol_id] = stream
        # A resumed stream gets no state record: it would be newer than the ticks that follow.
        is_new = before is None and stream.cursor is not None and wanted["after_ns"] == 0
        records = self._reader.state(stream) if is_new else None
        answer.update(
            accepted=True, instrument=instrument, tradable=self._config.has_orders, resumed=resumed, text=text[:512]
        )
        return answer, records

    def _report_stopped(self, stream: Stream, text: str) -> None:
        text = f"{stream.symbol}: {text}"
        self._session.notice("error", text)
        self._session.send({"type": "symbol_status", "symbol_id": stream.symbol_id, "live": False, "text": text[:512]})
