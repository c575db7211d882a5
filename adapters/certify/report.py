"""The report of the checks: one row each, as text and as JSON."""

from __future__ import annotations

import enum
from datetime import UTC, datetime

from msgspec import Struct


class Outcome(enum.StrEnum):
    """`unknown`: the check could not be made, such as while the market is shut; it counts as not passed."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class CheckRow(Struct, frozen=True, kw_only=True):
    """Result of one check. `measured`: the finding; `cure`: what a person can do about it, empty = nothing."""

    number: int
    title: str
    outcome: Outcome
    measured: str
    cure: str = ""
    seconds: float = 0.0


class CertifyReport(Struct, frozen=True, kw_only=True):
    """Report of one run. `account` and `details` are from the bridge's hello; empty when there was none."""

    platform: str
    symbol: str
    account: str
    simulated: bool
    details: dict[str, str]
    started_ns: int
    interrupted: bool
    checks: tuple[CheckRow, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed or stayed unknown, and the run was not interrupted."""
        bad = (Outcome.FAIL, Outcome.UNKNOWN)
        return not self.interrupted and not any(check.outcome in bad for check in self.checks)

    def count(self, outcome: Outcome) -> int:
        """Return the number of checks with this outcome."""
        return sum(check.outcome is outcome for check in self.checks)


def write_text(report: CertifyReport) -> str:
    """Return the report as text."""
    at = datetime.fromtimestamp(report.started_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    money = "demo account" if report.simulated else "REAL MONEY"
    account = f"account {report.account} ({money})" if report.account else "no account"
    lines = [f"{report.platform}: {account}, symbol {report.symbol}, {at}"]
    lines += [f"  {key}: {value}" for key, value in sorted(report.details.items())]
    for check in report.checks:
        lines.append(f"{check.number:>3} {check.outcome.upper():<8} {check.title}: {check.measured}")
        if check.cure:
            lines.append(f"             -> {check.cure}")
    counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
    lines.append(("interrupted; " if report.interrupted else "") + counts)
    return "\n".join(lines) + "\n"
