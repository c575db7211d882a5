"""The launcher: starts all processes, watches their signs of life, restarts, gives up, stops in order.

It holds no state that matters. When it is killed the children stop by themselves within a second, and the next
launcher cleans up what is left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from ...shm import host
from ...shm.counters import CountersPage
from ...shm.durations import NS_PER_S
from ...shm.run_folder import remove_stale_segments
from ..config import LAUNCHER_NAME, GatewayConfig
from ..errors import RunFolderError
from ..logs import Log, process_log
from ..process import EXIT_FAILURE, LaunchFile, ProcessId, ProcessSpec
from .child import Child
from .configured_symbols import enter_symbols
from .plan import check_specs
from .run_ownership import RunOwnership
from .supervision import DOWN, ChildState, Supervision, describe_exit
from .topology import check_pinning

COUNTERS: Final = (
    "children_configured",
    "children_running",
    "children_failed",
    "starts",
    "restarts",
    "hang_kills",
    "stop_kills",
    "orphans_ended",
    "stale_segments_removed",
)
STEP_S: Final = 0.2
_STOP_POLL_S: Final = 0.05
_KILL_PATIENCE_S: Final = 5.0
_HURRY: Final = 2  # requests to stop


@dataclass(frozen=True)
class ChildRow:
    """One child as `describe` shows it. `pid` and `heartbeat_age_s` are None when there is none."""

    name: str
    pid: int | None
    state: str
    restarts: int
    heartbeat_age_s: float | None
    cores: tuple[int, ...]
    detail: str


class Launcher:
    """Runs a list of processes in one run folder. Used by one thread; a context manager that starts and stops.

    Drive it with `step()` every `STEP_S` from a loop of your own, or let `run()` do that.
    """

    def __init__(
        self,
        config: GatewayConfig,
        specs: Sequence[ProcessSpec],
        *,
        console: bool = True,
        log: Log | None = None,
        before_release: Callable[[], None] | None = None,
    ) -> None:
        """
        Args:
            specs: in the order of starting; stopped in reverse.
            console: whether children print to this process's stderr; else into `<log_folder>/<name>.console`.
            before_release: called at the end of `stop`, when no child is left and the run folder is still ours.

        Raises:
            ConfigError: a name is no file name, reserved or given twice, or an entry is not "module:function".
        """
        check_specs(specs)
        self._config = config
        self._limits = config.launcher
        self._folder = config.run_path
        self._console = console
        self._log = log or process_log(LAUNCHER_NAME)
        self._before_release = before_release
        self._children = [Child(spec, self._folder, self._console_file(spec.name)) for spec in specs]
        self._supervisions = {spec.name: Supervision(config.launcher) for spec in specs}
        self._stop_requests = 0
        self._last_step_s = 0.0
        self._children_noted = True
        self._ownership: RunOwnership | None = None
        self._page: CountersPage | None = None

    def request_stop(self) -> None:
        """Make `run` end; the second time, kill at once what has not stopped yet. Safe in a signal handler."""
        self._stop_requests += 1

    def start(self) -> None:
        """Take the run folder, clean up what a dead launcher left, start all children.

        Raises:
            RunFolderError: another launcher holds the folder, it is not this user's alone or full, or a reader keeps
                symbols in use that mean something else now.
            ConfigError: a process is pinned to cores that are not there.
        """
        pinned = {child.spec.name: child.spec.cores for child in self._children}
        check_pinning(self._config, pinned, self._log)
        try:
            self._ownership = RunOwnership(self._folder)
            orphans = self._ownership.end_orphans(self._limits.stop_grace_s, self._log)
            stale = remove_stale_segments(self._folder)
            self._page = CountersPage.create(self._folder, LAUNCHER_NAME, COUNTERS)
            self._count("orphans_ended", orphans)
            self._count("stale_segments_removed", len(stale))
            self._page.counter("children_configured").set(len(self._children))
            if not self._console:
                self._config.log_path.mkdir(parents=True, exist_ok=True, mode=0o700)
            enter_symbols(self._folder, self._config)
            LaunchFile(
                launcher=ProcessId.own(),
                console=self._console,
                config=self._config,
                processes={child.spec.name: child.spec for child in self._children},
            ).write(self._folder)
            self._log.info("launcher starts", run_folder=str(self._folder), processes=list(pinned))
            self._last_step_s = time.monotonic()
            self.step()
        except OSError as error:
            self.stop()
            raise RunFolderError(
                f"run folder {self._folder} cannot be used: {error}; free some space there, or name another run_folder"
            ) from error
        except BaseException:
            self.stop()
            raise

    def step(self) -> None:
        """One look at every child: note ends, kill what hangs, start what is due. Does not wait."""
        now_s = time.monotonic()
        own_pause = now_s - self._last_step_s > self._limits.heartbeat_timeout_s / 2
        self._last_step_s = now_s
        changed = False
        for child in self._children:
            supervision = self._supervisions[child.spec.name]
            if own_pause:
                supervision.note_own_pause(now_s)
            if supervision.state is ChildState.WAITING:
                if now_s >= supervision.due_s:
                    self._start(child, supervision, now_s)
                    changed = True
            elif supervision.state not in DOWN:
                changed |= self._watch(child, supervision, now_s)
        if changed or not self._children_noted:
            self._note_children()
        self._beat()

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Step until a stop signal (SIGTERM, Ctrl-C, Ctrl-Break) or `request_stop`, until `until()` is true, or until
        no child is left; then stop. Main thread only, since it takes the signals over meanwhile.
        """
        restore = host.on_stop_request(self.request_stop)
        try:
            while not self._stop_requests and not (until is not None and until()) and self.any_alive:
                time.sleep(STEP_S)
                self.step()
        finally:
            self.stop()
            restore()

    @property
    def any_alive(self) -> bool:
        """Whether any child runs or will be started again."""
        return any(supervision.state not in DOWN for supervision in self._supervisions.values())

    def stop(self) -> None:
        """Stop all children in reverse order, each with its grace, then kill; give the run folder back.

        Platforms do not depend on each other and are asked together. Called a second time it does nothing.
        """
        asked = False
        for child in reversed(self._children):
            supervision = self._supervisions[child.spec.name]
            if supervision.state in DOWN:
                continue
            is_platform = child.spec.name in self._config.platforms
            if is_platform and not asked:
                for platform in self._children:
                    if platform.spec.name in self._config.platforms:
                        platform.ask_to_stop()
                asked = True
            elif not is_platform:
                child.ask_to_stop()
            self._wait_for_end(child, supervision)
        if self._page is not None:
            self._beat()
            self._page.close()
            self._page = None
        if self._ownership is not None:
            try:
                if self._before_release is not None:
                    self._before_release()
            finally:
                self._ownership.release()
                self._ownership = None
                self._log.info("launcher has stopped")

    def describe(self) -> list[ChildRow]:
        """The children as they are now, in the order of starting."""
        rows = []
        for child in self._children:
            supervision = self._supervisions[child.spec.name]
            beat_ns = child.last_beat_ns()
            rows.append(
                ChildRow(
                    name=child.spec.name,
                    pid=child.identity.pid if child.identity else None,
                    state=supervision.state.value,
                    restarts=supervision.restarts,
                    heartbeat_age_s=None if beat_ns is None else time.monotonic() - beat_ns / NS_PER_S,
                    cores=child.spec.cores,
                    detail=supervision.detail,
                )
            )
        return rows

    def __enter__(self) -> Launcher:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, child: Child, supervision: Supervision, now_s: float) -> None:
        supervision.note_start(now_s)
        try:
            child.spawn()
        except OSError as error:
            self._log.error("process cannot be started", child=child.spec.name, reason=str(error))
            self._note_exit(child, supervision, now_s, EXIT_FAILURE)
            return
        self._count("starts")
        self._count("restarts", 1 if supervision.restarts else 0)
        pid = child.identity.pid if child.identity else None
        self._log.info("process started", child=child.spec.name, child_pid=pid, restarts=supervision.restarts)

    def _watch(self, child: Child, supervision: Supervision, now_s: float) -> bool:
        """Whether the child has ended."""
        code = child.poll()
        if code is not None:
            self._note_exit(child, supervision, now_s, code)
            return True
        beat_ns = child.last_beat_ns()
        if supervision.judge(now_s, None if beat_ns is None else beat_ns / NS_PER_S):
            self._log.error("process hangs, killing it", child=child.spec.name, reason=supervision.detail)
            self._count("hang_kills")
            child.kill()
        return False

    def _note_exit(self, child: Child, supervision: Supervision, now_s: float, code: int) -> None:
        supervision.note_exit(now_s, code, random.random())
        name, reason = child.spec.name, supervision.detail
        if supervision.state is ChildState.FINISHED:
            self._log.info("process finished", child=name)
        elif supervision.state is ChildState.FAILED:
            self._log.error("process stays down, the others go on", child=name, exit=describe_exit(code), reason=reason)
        else:
            pause_s = round(supervision.due_s - now_s, 3)
            self._log.warning("process ended, will be restarted", child=name, reason=reason, pause_s=pause_s)

    def _wait_for_end(self, child: Child, supervision: Supervision) -> None:
        """Of a child that was asked to stop; killed when its grace is over."""
        deadline_s = time.monotonic() + self._limits.stop_grace_s
        name, code, killed = child.spec.name, None, ""
        while child.identity is not None and code is None:
            code = child.wait(_STOP_POLL_S)
            self._beat()
            if code is None and not killed and (time.monotonic() >= deadline_s or self._stop_requests >= _HURRY):
                killed = "did not stop when asked, killed"
                self._log.warning("process does not stop, killing it", child=name)
                self._count("stop_kills")
                child.kill()
                deadline_s = time.monotonic() + _KILL_PATIENCE_S
            elif code is None and killed and time.monotonic() >= deadline_s:
                self._log.error("process cannot be killed", child=name)
                killed = "cannot be killed"
                break
        supervision.note_stop(killed or (describe_exit(code) if code else ""))

    def _note_children(self) -> None:
        assert self._ownership is not None
        children = {child.spec.name: child.identity for child in self._children if child.identity is not None}
        try:
            self._ownership.note_children(children)
            self._children_noted = True
        except OSError as error:
            # The note is for the next launcher's clean-up; all that trades now must not stop for it.
            if self._children_noted:
                self._log.error("children cannot be noted, trying again", reason=str(error))
            self._children_noted = False

    def _beat(self) -> None:
        if self._page is not None:
            states = [supervision.state for supervision in self._supervisions.values()]
            self._page.counter("children_running").set(states.count(ChildState.RUNNING))
            self._page.counter("children_failed").set(states.count(ChildState.FAILED))
            self._page.beat()

    def _count(self, name: str, amount: int = 1) -> None:
        if self._page is not None:
            self._page.counter(name).add(amount)

    def _console_file(self, name: str) -> Path | None:
        return None if self._console else self._config.log_path / f"{name}.console"
