"""One run of all checks in their order, always followed by the clean-up."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final

from ...core.config import GatewayConfig
from ...core.errors import ConfigError, GatewayError, RunFolderError
from ...core.kill_file import KillFileError, kill_file_path, kill_level_of, read_kill_file
from ...core.logs import Log, process_log
from ...core.messages import KillLevel
from ...core.process import ProcessContext
from ...shm.counters import CountersPage
from ...shm.segment import SegmentError, SegmentState
from ...shm.tick import Platform
from ..base import LinkLostError
from ..bridge.process import COUNTERS as KEEPER_COUNTERS
from ..bridge.process import BridgeFiles, BridgeKeeper
from ..bridge.settings import BridgeSettings
from . import order_checks as orders
from . import session_checks as session
from .bench import CertifyBench, Interrupted
from .checks import CertifyRun, Check, Found, Profile, failed, skipped
from .mt5_profile import MT5
from .order_checks import NotPlaced
from .report import CertifyReport, CheckRow, Outcome

_PROFILES: Final = {"mt5": MT5, "mt5_br": MT5}
_OTHER: Final = Profile(resumes=False, details=(), cures={})
_STOP_KEEPER_S: Final = 30.0

SESSION_CHECKS: Final = (
    Check(1, "the bridge answers", session.check_connection),
    Check(2, "the account", session.check_account, (1,)),
    Check(3, "no money is in it", session.check_demo, (2,)),
    Check(4, "switches", session.check_switches, (1,)),
    Check(5, "clocks of both machines", session.check_machine_clock, (1,)),
    Check(6, "the symbol is the catalog's instrument", session.check_identity, (1,)),
    Check(7, "the symbol takes orders", session.check_tradable, (2,)),
    Check(8, "ticks", session.check_ticks, (1,)),
    Check(9, "no tick is lost or doubled over a break", session.check_resume, (8,)),
)
ORDER_CHECKS: Final = (
    Check(10, "a price beside the grid is refused", orders.check_reject, (2, 3, 4, 7)),
    Check(11, "an order that is late is refused", orders.check_too_late, (2, 3, 4, 7)),
    Check(12, "a limit order far from the market", orders.check_far_order, (2, 3, 4, 7)),
    Check(21, "what it says that it lists is listed", session.check_lists, (12,)),
    Check(13, "the same order again", orders.check_idempotent, (12,)),
    Check(14, "change its price", orders.check_replace, (12,)),
    Check(15, "cancel it", orders.check_cancel, (12,)),
    Check(16, "cancel it again", orders.check_cancel_again, (15,)),
    Check(17, "stop loss and take profit", orders.check_bracket, (12,)),
    Check(18, "restart of the bridge", orders.check_restart, (12,)),
    Check(19, "round trip at the market", orders.check_round_trip, (12,)),
)
LAST_CHECK: Final = Check(20, "nothing is left behind", orders.check_nothing_left)
"""Numbers never change: people compare reports."""


def certify(
    config: GatewayConfig,
    platform: str,
    symbol: str | None = None,
    *,
    trade: bool = False,
    real_account: str = "",
    quantity: Decimal | None = None,
    listen_s: float = 10.0,
    distance: Decimal = Decimal("0.02"),
    restart_wait_s: float = 0.0,
    on_stop: Callable[[Callable[[], None]], object] = lambda stop: None,
    say: Callable[[str], None] = lambda line: None,
) -> CertifyReport:
    """Run the checks of one platform; blocks for a minute or two.

    Args:
        symbol: universal name, None = the platform's first.
        trade: one round trip at the market, too.
        real_account: name of an account with real money, typed by its owner; without it such an account gets no orders.
        quantity: of each order, None = the lot step.
        listen_s: duration of each collection of ticks.
        distance: of the far orders from the market, as a fraction of the price.
        restart_wait_s: time for a person to restart a bridge that is not started from here; 0 = skip that check.
        on_stop: called with a function that ends the run early, with clean-up; safe in a signal handler.
        say: called with a line about each step.

    Raises:
        ConfigError: platform, symbol or settings are wrong, or it is another account.
        RunFolderError: a gateway trades this platform right now; the bridge serves one adapter at a time.
    """
    if platform not in config.platforms:
        raise ConfigError(f"platform was {platform!r}; platform_configs.yaml has {', '.join(config.platforms)}")
    listed = config.platforms[platform].symbols
    if symbol is None and not listed:
        raise ConfigError(f"platform {platform!r} has no symbols; name one with --symbol")
    _refuse_if_gateway_runs(config, platform)
    log = process_log(f"certify-{platform}"[:32])
    with tempfile.TemporaryDirectory(prefix="nexus-certify-") as name:
        folder = Path(name)
        bench = CertifyBench(config, platform, symbol or listed[0], folder, log)
        on_stop(lambda: setattr(bench, "stopping", True))
        own = _OwnBridge(config, platform, bench, folder, log)
        bench.fault = own.fault
        run = CertifyRun(
            bench=bench,
            profile=_PROFILES.get(platform, _OTHER),
            listen_s=listen_s,
            distance=distance,
            quantity=quantity,
            trade=trade,
            real_account=real_account,
            no_orders=_kill_file_reason(config, platform),
            restart=own.restart if own.is_wanted else None,
            restart_wait_s=restart_wait_s,
            say=say,
        )
        with contextlib.closing(bench), own:
            return _run_checks(run, say)


def _run_checks(run: CertifyRun, say: Callable[[str], None]) -> CertifyReport:
    started_ns = time.time_ns()
    rows: dict[int, CheckRow] = {}
    interrupted = False

    def add(check: Check, found: Found, seconds: float) -> None:
        rows[check.number] = CheckRow(
            number=check.number,
            title=check.title,
            outcome=found.outcome,
            measured=found.measured,
            cure=found.cure,
            seconds=round(seconds, 3),
        )

    try:
        for check in (*SESSION_CHECKS, *ORDER_CHECKS):
            began = time.monotonic()
            say(f"{check.number:>3} {check.title} ...")
            try:
                found = skipped("interrupted") if interrupted else _run_check(run, check, rows)
            except Interrupted:
                interrupted = True
                found = skipped("interrupted")
                say("stopping: taking away what was placed")
            add(check, found, time.monotonic() - began)
    finally:
        began = time.monotonic()
        found = orders.check_nothing_left(run) if run.bench.orders else skipped("no order was sent")
        add(LAST_CHECK, found, time.monotonic() - began)
    return CertifyReport(
        platform=run.bench.platform,
        symbol=run.bench.symbol.contract or run.bench.symbol.name,
        account="" if run.account is None else run.account.name,
        simulated=run.account is not None and run.account.simulated,
        details={} if run.hello is None else dict(run.hello.details),
        started_ns=started_ns,
        interrupted=interrupted,
        checks=tuple(rows[number] for number in sorted(rows)),
    )


def _run_check(run: CertifyRun, check: Check, rows: dict[int, CheckRow]) -> Found:
    missing = [number for number in check.needs if rows[number].outcome is not Outcome.PASS]
    if missing:
        return skipped(f"needs check {missing[0]}")
    if check in ORDER_CHECKS and run.no_orders:
        return skipped(run.no_orders)
    try:
        if run.bench.adapter.session is None and check.number > 1:
            run.bench.open(_STOP_KEEPER_S)
        return check.run(run)
    except NotPlaced as error:
        return error.found
    except ConfigError as error:
        run.bench.adapter.close()
        return failed(str(error), "")
    except LinkLostError as error:
        run.bench.adapter.close()
        return failed(str(error), run.cure_of(str(error), "look into the bridge's log, and whether it runs"))


def _refuse_if_gateway_runs(config: GatewayConfig, platform: str) -> None:
    try:
        state = CountersPage.attach(config.run_path, platform).state()
    except SegmentError:
        return
    if state is SegmentState.LIVE:
        raise RunFolderError(
            f"a gateway runs in {config.run_path} with {platform}: its bridge serves one adapter at a time; stop it "
            "first, or take the platform out of it"
        )


def _kill_file_reason(config: GatewayConfig, platform: str) -> str:
    try:
        level = kill_level_of(read_kill_file(kill_file_path(config.run_path)), platform)
    except KillFileError as error:
        return f"the kill file {error.strerror}; try again"
    return "" if level is KillLevel.NORMAL else f"the kill file says {level.name.lower()}; `resume` removes it"


class _OwnBridge:
    """Starts and ends the bridge of a platform with `backend: native`, as the launcher would."""

    def __init__(self, config: GatewayConfig, platform: str, bench: CertifyBench, folder: Path, log: Log) -> None:
        self._settings: BridgeSettings = bench.adapter.settings
        self.is_wanted = self._settings.native_starts(Platform.parse(platform)) != ()
        self._config = config
        self._files = BridgeFiles(folder, platform)
        self._log = log
        self._context: ProcessContext | None = None
        self._thread: threading.Thread | None = None
        self._ended = ""

    def __enter__(self) -> _OwnBridge:
        if self.is_wanted:
            self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def fault(self) -> str:
        """Return why the bridge has ended; empty while it runs, or when it is not started from here."""
        return self._ended

    def restart(self) -> None:
        """End it and start it again."""
        self._stop()
        self._start()

    def _start(self) -> None:
        name = f"{self._files.platform}_bridge"
        context = ProcessContext(name, self._files.folder, self._config, log=self._log)
        context.open_counters(KEEPER_COUNTERS)
        self._ended = ""
        self._context = context
        self._thread = threading.Thread(target=self._keep, args=(context,), daemon=True)
        self._thread.start()

    def _keep(self, context: ProcessContext) -> None:
        where = f"platform_configs.yaml: {self._files.platform}.settings"
        try:
            code = BridgeKeeper(context, self._settings, self._files, where).run()
            if not context.stopping:
                self._ended = f"the bridge has ended (exit code {code}); see its lines above"
        except GatewayError as error:
            self._ended = str(error)

    def _stop(self) -> None:
        context, thread = self._context, self._thread
        if context is None or thread is None:
            return
        context.request_stop()
        thread.join(_STOP_KEEPER_S)
        context.close()
        self._context = self._thread = None
