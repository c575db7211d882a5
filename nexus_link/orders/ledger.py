"""Sums over all signals of a run: fills, rejects, unknown outcomes, and the lots held."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from ...core.messages import LegReport, LegState, RejectCode, Signal, SignalState
from .outcomes import SignalOutcome

_KEPT_SIGNALS: Final = 10_000
_SHOWN_REPORTS: Final = 20
_ZERO: Final = Decimal(0)


class OrderLedger:
    """The newest outcome of each signal of this process, for reports only: no decision is made from it.

    Owned by `NexusCommunicationAdapter`. Any thread may call it.
    """

    def __init__(self, on_first_fill: Callable[[int], None] | None = None) -> None:
        """
        Args:
            on_first_fill: called once per leg, in the thread that calls `apply_outcome`, with the time in ns from
                the tick that was decided on until the leg's first fill was received.
        """
        self._on_first_fill = on_first_fill
        self._lock = threading.Lock()
        self._signals: dict[str, Signal] = {}
        self._outcomes: dict[str, SignalOutcome] = {}
        self._filled_legs: set[tuple[str, int]] = set()
        self._refused: Counter[str] = Counter()

    def note_signal(self, signal: Signal) -> bool:
        """Add a signal that is about to be sent; False if its id is already there."""
        with self._lock:
            if signal.signal_id in self._signals:
                return False
            self._signals[signal.signal_id] = signal
            if len(self._signals) > _KEPT_SIGNALS:
                oldest = next(iter(self._signals))
                del self._signals[oldest]
                gone = self._outcomes.pop(oldest, None)
                if gone is not None:
                    self._filled_legs -= {(oldest, leg.leg) for leg in _legs(gone)}
            return True

    def withdraw_signal(self, signal_id: str) -> None:
        """Remove a signal that was not sent after all, so that it does not count as unanswered."""
        with self._lock:
            self._signals.pop(signal_id, None)

    def note_refusal(self, code: RejectCode) -> None:
        """Count a refusal before sending."""
        with self._lock:
            self._refused[code.value] += 1

    def apply_outcome(self, outcome: SignalOutcome) -> None:
        """Replace the signal's outcome by a newer one."""
        latencies_ns = []
        with self._lock:
            self._outcomes[outcome.signal_id] = outcome
            signal = self._signals.get(outcome.signal_id)
            for leg in _legs(outcome):
                key = (outcome.signal_id, leg.leg)
                if leg.filled and key not in self._filled_legs:
                    self._filled_legs.add(key)
                    # Signals of this process only: an earlier process's tick would count its downtime as latency.
                    if signal is not None and signal.tick_ns:
                        latencies_ns.append(outcome.told_ns - signal.tick_ns)
        if self._on_first_fill is not None:
            for latency_ns in latencies_ns:
                self._on_first_fill(latency_ns)

    def summarize(self) -> dict[str, Any]:
        """JSON-able figures; quantities and prices are exact decimal texts.

        Keys: `signals` sent; `unanswered`, those without an outcome; `legs`; `fills`, legs with any fill; `partials`,
        legs filled in part; `rejects` by code, of refusals before sending, of whole signals without legs, and of legs;
        `unknown`, legs with an unknown outcome plus signals without an answer; `residual`, lots held by symbol;
        `avg_price` by symbol and side; `reports`, the newest ones unchanged.
        """
        with self._lock:
            signals, outcomes, refused = dict(self._signals), dict(self._outcomes), Counter(self._refused)
        legs = [(outcome, leg) for outcome in outcomes.values() for leg in _legs(outcome)]
        unanswered = sum(1 for signal_id in signals if signal_id not in outcomes)
        rejects = refused
        residual: dict[str, Decimal] = {}
        sums: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}
        unknown = unanswered
        for outcome in outcomes.values():
            report = outcome.report
            if outcome.state is SignalState.UNKNOWN and not any(
                leg.state is LegState.UNKNOWN for leg in _legs(outcome)
            ):
                unknown += 1
            if not _legs(outcome) and outcome.code is not RejectCode.NONE:
                rejects[outcome.code.value] += 1
            if report is None:
                continue
            residual[report.symbol] = residual.get(report.symbol, _ZERO) + report.residual_quantity
            if report.avg_price is not None:
                key = (report.symbol, report.side.value)
                lots, value = sums.get(key, (_ZERO, _ZERO))
                sums[key] = (lots + report.filled, value + report.filled * report.avg_price)
        for _, leg in legs:
            unknown += leg.state is LegState.UNKNOWN
            if leg.code is not RejectCode.NONE:
                rejects[leg.code.value] += 1
        average: dict[str, dict[str, str]] = {}
        for (symbol, side), (lots, value) in sums.items():
            average.setdefault(symbol, {})[side] = _text(value / lots)
        return {
            "signals": len(signals),
            "unanswered": unanswered,
            "legs": len(legs),
            "fills": sum(leg.filled > 0 for _, leg in legs),
            "partials": sum(0 < leg.filled < leg.quantity for _, leg in legs),
            "rejects": dict(sorted(rejects.items())),
            "unknown": unknown,
            "residual": {symbol: _text(lots) for symbol, lots in sorted(residual.items())},
            "avg_price": average,
            "reports": [
                msgspec.to_builtins(outcome.report)
                for outcome in list(outcomes.values())[-_SHOWN_REPORTS:]
                if outcome.report is not None
            ],
        }


def _legs(outcome: SignalOutcome) -> tuple[LegReport, ...]:
    return () if outcome.report is None else outcome.report.legs


def _text(value: Decimal) -> str:
    return format(round(value, 10).normalize(), "f")
