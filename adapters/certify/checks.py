"""The frame of a check: what it is given, what it gives back, and what differs from platform to platform."""

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
    """What a check gives back."""

    outcome: Outcome
    measured: str
    cure: str = ""


def passed(measured: str) -> Found:
    """All is as it should be."""
    return Found(Outcome.PASS, measured)


def failed(measured: str, cure: str) -> Found:
    """It is not."""
    return Found(Outcome.FAIL, measured, cure)


def skipped(why: str, cure: str = "") -> Found:
    """It does not apply here, or was not asked for."""
    return Found(Outcome.SKIPPED, why, cure)


def unknown(why: str, cure: str) -> Found:
    """It could not be told."""
    return Found(Outcome.UNKNOWN, why, cure)


@dataclass(frozen=True)
class Profile:
    """What differs from platform to platform.

    Attributes:
        resumes: the platform keeps a history of ticks, so that nothing is lost over a break.
        details: keys of the hello's `details` that the report must show.
        cures: a word in the platform's own text -> what a person does about it.
    """

    resumes: bool
    details: tuple[str, ...]
    cures: Mapping[str, str]


@dataclass
class CertifyRun:
    """One run, as the checks see it.

    Attributes:
        listen_s: how long ticks are collected.
        distance: of the far orders from the market, as a fraction of the price.
        quantity: of each order; None = the lot step.
        trade: whether one round trip at the market may be made.
        real_account: name of an account with real money that its owner has typed; empty = only a demo account will do.
        no_orders: why no order may be placed at all; empty = they may.
        restart: ends the bridge and starts it again; None = it is not ours to restart.
        restart_wait_s: how long a person is given to do so by hand.
        say: a line for the person, while it runs.
        hello, account: the bridge's, of the first session.
        baseline: what was at the account before.
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
        """Of each order."""
        if self.quantity is not None:
            return self.quantity
        step = None if self.instrument is None else self.instrument.lot_step
        return Decimal(1) if step is None else step

    def cure_of(self, text: str, otherwise: str) -> str:
        """What to do about the platform's own words."""
        lowered = text.casefold()
        return next((cure for word, cure in self.profile.cures.items() if word.casefold() in lowered), otherwise)


@dataclass(frozen=True)
class Check:
    """`needs`: numbers of the checks that must have passed before."""

    number: int
    title: str
    run: Callable[[CertifyRun], Found]
    needs: tuple[int, ...] = ()


ANSWER_S: Final = 10.0
"""How long a check waits for the platform's word."""
