"""The launcher: starts all processes, watches their heartbeats, restarts them, gives up, stops them in order.

It holds no state that would be missed. When it is killed, the children stop by themselves within a second, and the next
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
from ...shm.durations import NS_PER_S
from ..config import LAUNCHER_NAME, GatewayConfig
from ..errors import RunFolderError
from ..logs import Log, process_log
from ..process import EXIT_FAILURE, EXIT_RESOURCES, LaunchFile, ProcessId, ProcessSpec
from .child import Child
from .plan import check_specs, passed_variables
from .run_files import RunFiles
from .supervision import DOWN, ChildState, Supervision, describe_exit
from .topology import check_pinning

STEP_S: Final = 0.2
_STOP_POLL_S: Final = 0.05
_CONSOLES_S: Final = 2.0
_KILL_PATIENCE_S: Final = 5.0
_KILL_REQUESTS: Final = 2  # at the second request to stop, kill what still runs


@dataclass(frozen=True)
class ChildRow:
    """One child, as `describe` returns it. `pid`: None = no process. `state`: a `ChildState`, with how far it is
    while it reads its journal: "recovering, 41 %". `heartbeat_age_s`: None = no heartbeat yet.
    """

    name: str
    pid: int | None
    state: str
    restarts: int
    heartbeat_age_s: float | None
    cores: tuple[int, ...]
    detail: str


class Launcher:
    """Runs a list of processes in one run folder. Used by one thread; a context manager that starts and stops them.

    Call `run()`, or call `step()` every `STEP_S` from a loop of your own.
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
            before_release: called at the end of `stop`, when all children are down and the run folder is still locked;
                not when another launcher has taken the folder, whose files are in it by then.

        Raises:
            ConfigError: a name is not a file name, reserved or given twice, or an entry is not "module:function".
        """
        check_specs(specs)
        self._config = config
        self._limits = config.launcher
        self._folder = config.run_path
        self._console = console
        self._log = log or process_log(LAUNCHER_NAME)
        self._before_release = before_release
        self._children = [
            Child(spec, self._folder, self._console_file(spec.name), passed_variables(config, spec.name))
            for spec in specs
        ]
        self._supervisions = {spec.name: Supervision(config.launcher) for spec in specs}
        self._stop_requests = 0
        self._last_step_s = self._next_consoles_s = 0.0
        self._children_saved = True
        self._rebuild_due = False
        launch = LaunchFile(
            launcher=ProcessId.own(), console=console, config=config, processes={spec.name: spec for spec in specs}
        )
        self._files = RunFiles(config, launch, self._log)

    def request_stop(self) -> None:
        """Make `run` end; a second call kills at once what has not stopped yet. Safe in a signal handler."""
        self._stop_requests += 1

    def start(self) -> None:
        """Lock the run folder, clean up what a dead launcher left, start all children.

        Raises:
            RunFolderError: another launcher holds the folder, other users can read it, it is full, or a reader still
                uses symbols whose tick sizes differ from the configuration.
            ConfigError: a process is pinned to cores that this machine does not have.
        """
        pinned = {child.spec.name: child.spec.cores for child in self._children}
        check_pinning(self._config, pinned, self._log)
        try:
            self._files.open(self._limits.stop_grace_s)
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
        """Check every child once: record ends, kill what is unresponsive, start what is due. Does not wait."""
        now_s = time.monotonic()
        # The machine slept, or this process was stopped: heartbeats are old without any child being at fault, and to
        # kill all of them would interrupt every platform.
        own_pause = now_s - self._last_step_s > self._limits.heartbeat_timeout_s / 2
        self._last_step_s = now_s
        if not self._check_files(now_s):
            return  # no process could start in the folder as it is
        changed = False
        for child in self._children:
            supervision = self._supervisions[child.spec.name]
            if own_pause:
                supervision.on_own_pause(now_s)
            if supervision.state is ChildState.WAITING:
                if now_s >= supervision.due_s:
                    self._start(child, supervision, now_s)
                    changed = True
            elif supervision.state not in DOWN:
                changed |= self._watch(child, supervision, now_s)
        if now_s >= self._next_consoles_s:
            self._next_consoles_s = now_s + _CONSOLES_S
            for child in self._children:
                child.bound_console()
        # The next launcher ends orphans by this file: a child that is not in it would trade on beside its successor.
        if changed or not self._children_saved:
            self._save_children()
        self._beat()

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Step until a stop signal (SIGTERM, Ctrl-C, Ctrl-Break) or `request_stop`, until `until()` is true, or until
        no child is left; then stop. Main thread only: it handles the signals meanwhile.
        """
        restore = host.on_stop_request(self.request_stop)
        try:
            while not self._stop_requests and not (until is not None and until()) and self.any_alive:
                time.sleep(STEP_S)
                self.step()
        finally:
            # Signals stay with us until all have stopped: the second Ctrl-C must reach `request_stop` and not end us.
            self.stop()
            restore()

    @property
    def any_alive(self) -> bool:
        """Whether any child runs or will be started again."""
        return any(supervision.state not in DOWN for supervision in self._supervisions.values())

    def stop(self) -> None:
        """Stop all children in reverse order, each within its grace, else kill it; then release the run folder.

        Platforms do not depend on each other and are asked together. A second call does nothing.
        """
        platforms_asked = False
        for child in reversed(self._children):
            supervision = self._supervisions[child.spec.name]
            if supervision.state in DOWN:
                continue
            is_platform = child.spec.name in self._config.platforms
            if is_platform and not platforms_asked:
                # One after the other, six platforms with 5 s each would take half a minute to stop.
                for platform in self._children:
                    if platform.spec.name in self._config.platforms:
                        platform.ask_to_stop()
                platforms_asked = True
            elif not is_platform:
                child.ask_to_stop()
            self._wait_for_end(child, supervision)
        self._beat()
        self._files.close_page()
        if self._files.is_open:
            try:
                if self._before_release is not None and not self._files.is_taken:
                    self._before_release()
            finally:
                self._files.release()
                self._log.info("launcher has stopped")

    def describe(self) -> list[ChildRow]:
        """The current state of all children, in the order of starting."""
        rows = []
        for child in self._children:
            supervision = self._supervisions[child.spec.name]
            beat_ns = child.last_beat_ns()
            rows.append(
                ChildRow(
                    name=child.spec.name,
                    pid=child.identity.pid if child.identity else None,
                    state=_describe_state(child, supervision),
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
        supervision.on_start(now_s)
        try:
            child.spawn()
        except OSError as error:
            self._log.error("process cannot be started", child=child.spec.name, reason=str(error))
            # Counts as an exit, so that it is tried again after a pause, within the budget of restarts.
            code = EXIT_RESOURCES if host.is_want_of_resources(error) else EXIT_FAILURE
            self._handle_exit(child, supervision, now_s, code)
            return
        self._count("starts")
        self._count("restarts", 1 if supervision.restarts else 0)
        pid = child.identity.pid if child.identity else None
        self._log.info("process started", child=child.spec.name, child_pid=pid, restarts=supervision.restarts)

    def _watch(self, child: Child, supervision: Supervision, now_s: float) -> bool:
        """Check one child that was started. Returns whether it has ended."""
        code = child.poll()
        if code is not None:
            self._handle_exit(child, supervision, now_s, code)
            return True
        beat_ns = child.last_beat_ns()
        if child.is_unseen:
            supervision.on_own_pause(now_s)
        beat_s = None if beat_ns is None else beat_ns / NS_PER_S
        if supervision.check_heartbeat(now_s, beat_s, child.is_recovering):
            self._log.error("process is unresponsive, killing it", child=child.spec.name, reason=supervision.detail)
            self._count("hang_kills")
            child.kill()
        return False

    def _handle_exit(self, child: Child, supervision: Supervision, now_s: float, code: int) -> None:
        supervision.on_exit(now_s, code, random.random())
        name, reason = child.spec.name, supervision.detail
        if supervision.state is ChildState.FINISHED:
            self._log.info("process finished", child=name)
        elif supervision.state is ChildState.FAILED:
            self._log.error("process stays down, the others go on", child=name, exit=describe_exit(code), reason=reason)
        else:
            pause_s = round(supervision.due_s - now_s, 3)
            self._log.warning("process ended, will be restarted", child=name, reason=reason, pause_s=pause_s)

    def _wait_for_end(self, child: Child, supervision: Supervision) -> None:
        """Wait for the end of a child that was asked to stop; kill it when its grace is over."""
        deadline_s = time.monotonic() + self._limits.stop_grace_s
        name, code, killed = child.spec.name, None, ""
        while child.identity is not None and code is None:
            code = child.wait(_STOP_POLL_S)
            self._beat()  # stopping takes seconds, and `status` would call the launcher unresponsive
            is_due = time.monotonic() >= deadline_s or self._stop_requests >= _KILL_REQUESTS
            if code is None and not killed and is_due:
                killed = "did not stop when asked, killed"
                self._log.warning("process does not stop, killing it", child=name)
                self._count("stop_kills")
                child.kill()
                deadline_s = time.monotonic() + _KILL_PATIENCE_S
            elif code is None and killed and time.monotonic() >= deadline_s:
                self._log.error("process cannot be killed", child=name)
                killed = "cannot be killed"
                break
        supervision.on_stop(killed or (describe_exit(code) if code else ""))

    def _check_files(self, now_s: float) -> bool:
        """Look after the run folder; returns whether processes can run in it."""
        lost = self._files.check(now_s)
        if lost and not self._rebuild_due:
            self._log.error("a file of all processes was lost, they are restarted", damage=lost)
            self._end_all(now_s, lost)
            self._rebuild_due = True
        if self._rebuild_due:
            self._rebuild_due = not self._files.rebuild()
        if self._files.is_taken:
            self._log.error("another launcher has taken the run folder, this one ends")
            self._stop_requests = max(self._stop_requests, 1)
        return not self._rebuild_due

    def _end_all(self, now_s: float, reason: str) -> None:
        """Kill all processes and wait for their end: what they still published would have ids of the lost directory."""
        ended = [child for child in self._children if self._supervisions[child.spec.name].on_files_lost(now_s, reason)]
        for child in ended:
            child.kill()
        for child in ended:
            code = child.wait(_KILL_PATIENCE_S)
            if code is not None:
                self._handle_exit(child, self._supervisions[child.spec.name], now_s, code)

    def _save_children(self) -> None:
        children = {child.spec.name: child.identity for child in self._children if child.identity is not None}
        try:
            self._files.save_children(children)
            self._children_saved = True
        except OSError as error:
            # The file is for the next launcher's clean-up: trading must not stop because a full disk refuses it.
            if self._children_saved:
                self._log.error("list of children cannot be saved, trying again", reason=str(error))
            self._children_saved = False

    def _beat(self) -> None:
        states = [supervision.state for supervision in self._supervisions.values()]
        self._files.beat(states.count(ChildState.RUNNING), states.count(ChildState.FAILED))

    def _count(self, name: str, amount: int = 1) -> None:
        self._files.count(name, amount)

    def _console_file(self, name: str) -> Path | None:
        return None if self._console else self._config.log_path / f"{name}.console"


def _describe_state(child: Child, supervision: Supervision) -> str:
    recovery = child.describe_recovery() if supervision.state is ChildState.RECOVERING else ""
    return recovery or supervision.state.value
