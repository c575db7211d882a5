"""The types of a check: its input, its result, and a platform's profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from ...core.messages import Instrument, Snapshot
from ..bridge.messages import BridgeAccount, BridgeHello
from .bench import CertifyBench
from .report import Outcome


class Found(NamedTuple):
    """Result of a check."""

    outcome: Outcome
    measured: str
    cure: str = ""


def passed(measured: str) -> Found:
    """The check passed."""
    return Found(Outcome.PASS, measured)


def failed(measured: str, cure: str) -> Found:
    """The check failed; `cure`: what a person can do."""
    return Found(Outcome.FAIL, measured, cure)


def skipped(why: str, cure: str = "") -> Found:
    """The check does not apply here, or was not asked for."""
    return Found(Outcome.SKIPPED, why, cure)


def unknown(why: str, cure: str) -> Found:
    """The check could not be made."""
    return Found(Outcome.UNKNOWN, why, cure)


@dataclass(frozen=True)
class Profile:
    """The part of the checks that differs from platform to platform.

    Attributes:
        resumes: the platform keeps a history of ticks, so that none is lost over a reconnect.
        details: keys that the hello's `details` must have; the report shows them.
        cures: part of the platform's own text -> what a person can do about it.
    """

    resumes: bool
    details: tuple[str, ...]
    cures: Mapping[str, str]


@dataclass
class CertifyRun:
    """Input and state of one run, given to each check.

    Attributes:
        listen_s: duration of each collection of ticks.
        distance: of the far orders from the market, as a fraction of the price.
        quantity: of each order; None = the lot step.
        trade: whether one round trip at the market may be made.
        real_account: name of an account with real money that its owner has typed; empty = only a demo account will do.
        no_orders: why no order may be placed at all; empty = orders are allowed.
        restart: ends the bridge and starts it again; None = the bridge is started elsewhere.
        restart_wait_s: time for a person to restart it then.
        say: called with a line for the person who runs it.
        hello, account: the bridge's, of the first session.
        baseline: snapshot of the account before the checks.
    """

    bench: CertifyBench
    profile: Profile
    listen_s: float
    distance: Decimal
    quantity: Decimal | None
    trade: bool
    real_account: str
    no_orders: str
    restart: Callable[[], None] | None
    restart_wait_s: float
    say: Callable[[str], None]
    hello: BridgeHello | None = None
    account: BridgeAccount | None = None
    baseline: Snapshot | None = None

    @property
    def instrument(self) -> Instrument | None:
        """The symbol as the platform describes it."""
        return next((each for each in self.bench.adapter.instruments if each.symbol == self.bench.symbol.name), None)

    @property
    def lots(self) -> Decimal:
        """Quantity of each order."""
        if self.quantity is not None:
            return self.quantity
        step = None if self.instrument is None else self.instrument.lot_step
        return Decimal(1) if step is None else step

    def cure_of(self, text: str, otherwise: str) -> str:
        """Return the cure for a text of the platform, `otherwise` when the profile has none."""
        lowered = text.casefold()
        return next((cure for word, cure in self.profile.cures.items() if word.casefold() in lowered), otherwise)


@dataclass(frozen=True)
class Check:
    """One check. `needs`: numbers of the checks that must have passed before."""

    number: int
    title: str
    run: Callable[[CertifyRun], Found]
    needs: tuple[int, ...] = ()


ANSWER_S: Final = 10.0
"""How long a check waits for an answer of the platform."""
