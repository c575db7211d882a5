"""Texts that the example shows: market, ideas, outcomes, and the orders of a run."""

from __future__ import annotations

from typing import Any

from ...core.messages import LegState, RejectCode
from ..communication import TradeAnswer, TradeIdea
from ..orders.outcomes import SignalOutcome


def describe_market(summary: dict[str, Any], rows: int = 10) -> str:
    """The busiest symbols as text."""
    lines = [f"read {summary['ticks_read']:,} ticks, lost {summary['ticks_lost']:,}"]
    busiest = sorted(summary["symbols"].items(), key=lambda item: -item[1]["ticks"])[:rows]
    for name, row in busiest:
        mid = "-" if row["mid"] is None else f"{row['mid']:.6g}"
        volatility = "-" if row["volatility"] is None else f"{row['volatility'] * 1e4:.3f}"
        imbalance = "-" if row["imbalance"] is None else f"{row['imbalance']:+.2f}"
        lines.append(
            f"  {name:<10} {row['ticks']:>10,} ticks  mid {mid:>10}  volatility {volatility:>7} bp  "
            f"imbalance {imbalance:>5}  flow {row['flow']:+,.0f}"
        )
    return "\n".join(lines)


def describe_answer(idea: TradeIdea, answer: TradeAnswer) -> str:
    """An idea, the sizes that were sent and the platforms that were refused."""
    what = f"{idea.side} {idea.symbol}, stop {idea.stop_distance:f} points away"
    sizes = ", ".join(f"{platform} {sizing.lots:f}" for platform, sizing in answer.sizings.items())
    lines = [f"idea: {what}" + (f": {sizes} lots" if sizes else ": nothing sent")]
    lines += [
        f"    {refusal.platform or 'all'} refused [{refusal.code}]: {refusal.text}" for refusal in answer.refusals
    ]
    return "\n".join(lines)


def describe_orders(summary: dict[str, Any]) -> str:
    """The orders of a run in two lines."""
    rejects = ", ".join(f"{code} {count}" for code, count in summary["rejects"].items()) or "none"
    held = ", ".join(f"{symbol} {lots}" for symbol, lots in summary["residual"].items()) or "nothing"
    return (
        f"{summary['signals']} signals, {summary['legs']} legs, {summary['fills']} of them filled "
        f"({summary['partials']} in part), UNKNOWN {summary['unknown']}\nrejects: {rejects}; holds: {held}"
    )


def describe_outcome(outcome: SignalOutcome) -> str:
    """A signal and its legs: filled, held, refused with the reason, or unknown."""
    report = outcome.report
    state = outcome.state.value.upper() if outcome.is_unknown else outcome.state.value
    reason = "" if outcome.code is RejectCode.NONE else f" [{outcome.code}]"
    note = f": {outcome.text}" if outcome.text else ""
    if report is None:
        return f"signal {outcome.signal_id}: {state}{reason}{note}"
    price = "" if report.avg_price is None else f" at {report.avg_price:f}"
    lines = [
        f"signal {outcome.signal_id}: {state}{reason}, {report.side} {report.symbol} {report.filled:f} of "
        f"{report.quantity:f} lots{price}, holds {report.residual_quantity:+f}{note}"
    ]
    for leg in report.legs:
        price = "" if leg.avg_price is None else f" at {leg.avg_price:f}"
        reason = "" if leg.code is RejectCode.NONE else f" [{leg.code}]"
        missing = f", {leg.missing_fills:f} filled there without an execution" if leg.missing_fills else ""
        note = f": {leg.text}" if leg.text else ""
        state = leg.state.value.upper() if leg.state is LegState.UNKNOWN else leg.state.value
        lines.append(
            f"    {leg.platform:<10} {state:<16} {leg.filled:f} of {leg.quantity:f}{price}, holds "
            f"{leg.open_quantity:+f}{missing}{reason}{note}"
        )
    return "\n".join(lines)
