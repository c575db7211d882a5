"""Checks of the session: bridge, account, switches, clocks, instrument, ticks."""

from __future__ import annotations

import math
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from ...core.errors import GatewayError
from ...core.instruments.contract_code import parse_code
from ...core.instruments.expiry import contract_dates
from ...core.instruments.identity import ReportedIdentity, compare_identity
from ...shm.durations import NS_PER_MS
from ...shm.tick import TickArray
from ..base import LinkLostError
from ..bridge.messages import BridgeHello
from ..bridge.session import BridgeSession
from .checks import ANSWER_S, CertifyRun, Found, failed, passed, skipped, unknown
from .own_orders import incomplete_parts, is_alive, is_working

_CLOCK_LIMIT_MS: Final = 1_000
_OPEN_PATIENCE_S: Final = 120.0


def session_of(run: CertifyRun) -> BridgeSession:
    """Return the open session. Raises LinkLostError."""
    session = run.bench.adapter.session
    if session is None or session.hello is None:
        raise LinkLostError("there is no session with the bridge")
    return session


def hello_of(run: CertifyRun) -> BridgeHello:
    """Return the bridge's hello. Raises LinkLostError."""
    hello = session_of(run).hello
    assert hello is not None
    return hello


def check_connection(run: CertifyRun) -> Found:
    """The bridge answers, knows the token, and identifies itself."""
    patience_s = _OPEN_PATIENCE_S if run.restart is not None else 0.0  # our own bridge has only just been started
    began = time.monotonic()
    run.bench.open(patience_s)
    took_ms = (time.monotonic() - began) * 1000
    challenge = session_of(run).challenge
    assert challenge is not None
    run.hello, run.account = hello_of(run), run.bench.bridge_account
    if run.bench.adapter.account is not None:
        run.baseline = run.bench.snapshot()
    platform = hello_of(run).platform_version
    return passed(f"{challenge.bridge} {challenge.bridge_version}, platform {platform}, session after {took_ms:.0f} ms")


def check_account(run: CertifyRun) -> Found:
    """The hello has account, server and so on; the adapter has compared them with the settings already."""
    hello, account = hello_of(run), run.bench.bridge_account
    if account is None:
        return failed("no account", "log in at the platform, and name the account in settings.account")
    missing = [key for key in run.profile.details if not hello.details.get(key)]
    text = f"{account.name}, {account.mode.value}, {account.currency}"
    text += "".join(f", {key} {hello.details[key]}" for key in run.profile.details if key not in missing)
    if missing:
        return failed(f"{text}; the bridge does not say {', '.join(missing)}", "use the bridge of this release")
    return passed(text)


def check_demo(run: CertifyRun) -> Found:
    """It is a demo account, or its owner has typed its name."""
    account = run.bench.bridge_account
    if account is None:
        return failed("no account", "log in at the platform, and name the account in settings.account")
    name = account.name
    if account.simulated or run.real_account == name:
        run.bench.vetted = account
        allowed = f"REAL MONEY, allowed by --real-money-account {name}"
        return passed("the platform says that no money is in it" if account.simulated else allowed)
    run.no_orders = f"account {name} is not a demo account"
    return failed(
        f"account {name} is not a demo account: no order is placed",
        f"log in to a demo account; or, if you mean it, add --real-money-account {name}",
    )


def check_switches(run: CertifyRun) -> Found:
    """Market data and orders are on at the platform."""
    adapter = run.bench.adapter
    run.bench.poll_for(0.5)
    if adapter.data_up and adapter.orders_up:
        return passed("data and orders are on")
    off = [name for name, is_up in (("data", adapter.data_up), ("orders", adapter.orders_up)) if not is_up]
    text = adapter.state_text or "no reason given"
    if not adapter.orders_up:
        run.no_orders = run.no_orders or f"orders are off at the platform: {text}"
    return failed(f"{' and '.join(off)} off: {text}", run.cure_of(text, "see the platform's page for this text"))


def check_machine_clock(run: CertifyRun) -> Found:
    """The clocks of both machines agree."""
    session = session_of(run)
    run.bench.until(lambda: session.heartbeat is not None, ANSWER_S)
    offset_ms = session.clock.offset_ns / NS_PER_MS
    text = f"bridge's clock {offset_ms:+.1f} ms of ours, round trip {session.clock.round_trip_ns / NS_PER_MS:.2f} ms"
    if session.heartbeat is None:
        return failed("no heartbeat came", "look into the bridge's log: a call into the platform may block it")
    if abs(offset_ms) > _CLOCK_LIMIT_MS:
        return failed(text, "synchronise the clocks of both machines with a time server")
    return passed(text)


def check_identity(run: CertifyRun) -> Found:
    """The platform's symbol is the instrument of the catalog: multiplier, tick, currency, expiry."""
    symbol, reported = run.bench.symbol, run.instrument
    if reported is None:
        return failed(f"no data for {symbol.name}", "see the adapter's line above; correct settings.names")
    text = (
        f"{symbol.name} is {reported.platform_symbol}: tick {reported.tick_size}, lot step {reported.lot_step}, "
        f"{reported.point_value} {reported.currency} a point"
    )
    contract = parse_code(symbol.contract)
    known = run.bench.catalog.get(symbol.name if contract is None else contract.root)
    if known is None:
        return unknown(f"{text}; the catalog has no {symbol.name}", "describe it in orders.instruments_file")
    expiry = datetime.fromtimestamp(reported.expiry_ns / 1e9, UTC).date() if reported.expiry_ns else None
    identity = ReportedIdentity(
        point_value=reported.point_value,
        tick=reported.tick_size,
        currency=reported.currency or None,
        expiry=expiry,
    )
    try:
        dates = None if contract is None else contract_dates(run.bench.catalog, contract)
    except GatewayError as error:
        return failed(f"{text}; {error}", "correct the contract of the symbol in gateway_config.yaml")
    wrong = compare_identity(known, dates, identity)
    if not wrong:
        return passed(text)
    return failed(
        f"{text}; {'; '.join(map(str, wrong))}",
        "orders for it are refused; describe the broker's instrument in orders.instruments_file "
        "(docs/instruments.md), or map another symbol",
    )


def check_tradable(run: CertifyRun) -> Found:
    """The platform accepts orders for the symbol."""
    tradable = [each.symbol for each in run.bench.account.instruments]
    if run.bench.symbol.name in tradable:
        return passed(f"{run.bench.symbol.name} takes orders")
    run.no_orders = run.no_orders or f"{run.bench.symbol.name} takes no orders"
    return failed(
        f"{run.bench.symbol.name} is data only",
        "the broker has switched it off for this account, or it is a continuous series; choose another symbol",
    )


def check_lists(run: CertifyRun) -> Found:
    """A snapshot lists completely what the capabilities say that it lists; a far order works meanwhile."""
    bench, able = run.bench, run.bench.capabilities
    bench.until(lambda: not incomplete_parts(run, bench.snapshot()), ANSWER_S)
    snapshot = bench.snapshot()
    lacking = incomplete_parts(run, snapshot)
    if lacking:
        text = f"never complete: {', '.join(lacking)}"
        return failed(text, "look into the bridge's log: without a complete snapshot nothing opens there")
    working = [order for order in bench.orders.values() if is_working(run, order)]
    unlisted = [each for each in working if not any(is_alive(row, each) for row in snapshot.working_orders.rows)]
    if able.lists_orders and unlisted:
        text = f"order {unlisted[0].client_order_id} works and is not listed"
        return failed(text, "keep this report: the gateway would take it for gone")
    claims = {
        "positions": able.lists_positions,
        "working orders": able.lists_orders,
        "executions": able.executions_history,
    }
    listed = ", ".join(name for name, is_listed in claims.items() if is_listed) or "nothing"
    missing = ", ".join(name for name, is_listed in claims.items() if not is_listed)
    return passed(f"listed, complete: {listed}" + (f"; not listed at this platform: {missing}" if missing else ""))


def check_ticks(run: CertifyRun) -> Found:
    """Ticks arrive, are fresh by our clock, and none is refused."""
    refused_before = run.bench.count("bridge_ticks_refused")
    run.bench.ticks()
    run.bench.poll_for(run.listen_s)
    ticks = run.bench.ticks()
    refused = run.bench.count("bridge_ticks_refused") - refused_before
    gated = run.bench.count("bridge_quotes_gated")
    if not len(ticks):
        return unknown(
            f"no tick in {run.listen_s:g} s ({gated} quotes gated)",
            "run it while the market is open; if it is: is the symbol's chart moving at the platform?",
        )
    ages_ms = (ticks["ts_recv_ns"] - ticks["ts_event_ns"]) / NS_PER_MS
    same = (ticks[1:]["ts_event_ns"] == ticks[:-1]["ts_event_ns"]).sum()
    youngest_ms, middle_ms = float(ages_ms.min()), sorted(ages_ms)[len(ages_ms) // 2]
    text = (
        f"{len(ticks)} ticks in {run.listen_s:g} s, age p50 {middle_ms:.0f} ms, youngest {youngest_ms:.0f} ms, oldest "
        f"{float(ages_ms.max()):.0f} ms, {same} in the same instant as the one before, {gated} quotes gated"
    )
    if refused:
        return failed(f"{text}, {refused} refused", "see the line `ticks refused` above: the bridge sends nonsense")
    if not -_CLOCK_LIMIT_MS <= youngest_ms <= 60 * _CLOCK_LIMIT_MS:
        hours = math.copysign(round(abs(youngest_ms) / 1_800_000) / 2, youngest_ms)
        return failed(
            f"{text}: the broker's clock is off by about {hours:g} hours",
            "correct the clock in the bridge's configuration (utc_offset_minutes, dst)",
        )
    return passed(text)


def check_resume(run: CertifyRun) -> Found:
    """Ticks received over a reconnect equal those of the platform's own history of the same time."""
    if not run.profile.resumes:
        return skipped("this platform keeps no ticks: those of a break are lost, and the symbol is marked stale")
    bench = run.bench
    bench.ticks()
    bench.poll_for(run.listen_s / 2)
    bench.adapter.close()
    broke = time.monotonic()
    time.sleep(1.0)
    bench.open(_OPEN_PATIENCE_S)
    pause_s = time.monotonic() - broke
    bench.poll_for(run.listen_s / 2)
    over_break = bench.ticks()
    times = sorted(set(over_break["ts_event_ns"].tolist()))
    if len(times) < 4:
        return unknown(f"{len(over_break)} ticks are too few", "run it while the market is open, with --seconds 60")
    # Not all ticks of the first and the last instant need have arrived.
    first_ns, last_ns = times[1], times[-2]
    bench.adapter.close()
    bench.adapter.resume_from(bench.symbol, first_ns)
    bench.open(_OPEN_PATIENCE_S)
    again: list[tuple[float, ...]] = []

    def caught_up() -> bool:
        ticks = bench.ticks()
        again.extend(_rows(ticks, first_ns, last_ns))
        return bool(len(ticks) and ticks["ts_event_ns"][-1] > last_ns)

    bench.until(caught_up, ANSWER_S)
    wanted = _rows(over_break, first_ns, last_ns)
    missing, doubled = _count_missing(wanted, again), _count_missing(again, wanted)
    text = f"{len(wanted)} ticks over a break of {pause_s:.1f} s: {missing} missing, {doubled} too many"
    if missing or doubled:
        return failed(text, "keep the bridge's log and this report: this must not happen")
    return passed(text)


def _count_missing(rows: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> int:
    """Return how many of `others` are not in `rows`; equal rows are counted singly."""
    return (Counter(others) - Counter(rows)).total()


def _rows(ticks: TickArray, first_ns: int, last_ns: int) -> list[tuple[float, ...]]:
    """Return time, prices and size of the ticks between two times; NaN becomes -1, so that rows can be compared."""
    rows = []
    for tick in ticks:
        if first_ns <= tick["ts_event_ns"] <= last_ns:
            values = (float(tick[name]) for name in ("bid", "ask", "last", "last_size"))
            rows.append((int(tick["ts_event_ns"]), *(-1.0 if math.isnan(value) else value for value in values)))
    return rows
