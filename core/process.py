"""The frame of every child process of the launcher: its context, its entry function, its exit code.

`python -m nexus_gateway.core.process NAME --run-folder FOLDER --launcher PID:STARTED` reads the launch file
(`launch.json`) that the launcher wrote to FOLDER, and calls the entry "module:function" of NAME with a ProcessContext.

Exit codes: 0 clean end (not restarted), 1 failure (restarted), 2 configuration error (never restarted: it would fail in
the same way again), 3 a file of the run folder was lost, 4 the system had no descriptor or memory (both restarted as
long as it takes: no fault of the process). Any other code, and an end by a signal, is restarted.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..shm import host
from ..shm.counters import CountersPage
from ..shm.segment import find_damage
from .config import GatewayConfig, load_entry
from .errors import ConfigError, GatewayError
from .logs import Log, process_log, set_up_logs

EXIT_CLEAN: Final = 0
EXIT_FAILURE: Final = 1
EXIT_CONFIG: Final = 2
EXIT_FILES: Final = 3
EXIT_RESOURCES: Final = 4

RECOVERING: Final = "recovering"
"""Gauge of a process that rebuilds its state before it works: 1 meanwhile. See `describe_recovery`."""
RECOVERED_PERMILLE: Final = "recovered_permille"
"""Gauge beside it: how much is rebuilt, 0 to 1,000."""

LAUNCH_FILE: Final = "launch.json"
_BEAT_NS: Final = 100_000_000
_LAUNCHER_CHECK_NS: Final = 500_000_000
_RELEASE_AFTER_NS: Final = 3_000_000_000
_NEVER_NS: Final = 1 << 63
_NAP_S: Final = 0.05


class ProcessSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process to be launched.

    Attributes:
        entry: "module:function", called with the ProcessContext; returns the exit code.
        arguments: for the entry; anything that JSON can hold.
        cores: cores to pin it to; empty = any core.
    """

    name: str
    entry: str
    arguments: dict[str, Any] = {}
    cores: tuple[int, ...] = ()


class ProcessId(Struct, frozen=True, forbid_unknown_fields=True):
    """A process, by pid and start time: the system gives the pid alone to another process later."""

    pid: int
    started_ms: int

    @classmethod
    def own(cls) -> ProcessId:
        return cls(os.getpid(), host.started_ms(os.getpid()) or 0)

    @property
    def text(self) -> str:
        """As written on a command line: "pid:started_ms"."""
        return f"{self.pid}:{self.started_ms}"

    def is_alive(self) -> bool:
        """Whether this very process still runs; takes about 20 us."""
        return host.is_alive(self.pid, self.started_ms)


class LaunchFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `launch.json`. It may hold tokens of platforms: mode 0600, removed at a clean stop."""

    launcher: ProcessId
    console: bool
    config: GatewayConfig
    processes: dict[str, ProcessSpec]

    def write(self, run_folder: Path) -> os.stat_result:
        return host.replace_private(run_folder / LAUNCH_FILE, msgspec.json.encode(self))

    @classmethod
    def read(cls, run_folder: Path) -> LaunchFile:
        """Read a run folder's launch file. Raises ConfigError: missing, unreadable, damaged or of another release."""
        path = run_folder / LAUNCH_FILE
        try:
            return msgspec.json.decode(host.read_regular(path), type=cls)
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist; the launcher writes it and starts the processes") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}; restart the launcher") from error
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"{path} is damaged or was written by another release: {error}; restart the launcher"
            ) from error


class ProcessContext:
    """The surroundings of a supervised process. Used by the main thread of that process.

    Attributes:
        name: of the process, as in the configuration, in file names of the run folder and in the logs.
        arguments: its `ProcessSpec.arguments`.
        lost_file: the file of the run folder whose loss makes a restart necessary, and what became of it; empty = none.
    """

    def __init__(
        self,
        name: str,
        run_folder: Path,
        config: GatewayConfig,
        arguments: dict[str, Any] | None = None,
        *,
        log: Log | None = None,
        launcher: ProcessId | None = None,
    ) -> None:
        """`launcher`: the process stops when this one has died; None = it runs unsupervised, as in a test."""
        self.name = name
        self.run_folder = run_folder
        self.config = config
        self.arguments = arguments or {}
        self.log = log or process_log(name)
        self._launcher = launcher
        self._counters: CountersPage | None = None
        self._stopping = False
        self.lost_file = ""
        self._next_beat_ns = 0
        self._release_at_ns = time.monotonic_ns() + _RELEASE_AFTER_NS
        self._next_launcher_check_ns = time.monotonic_ns() + _LAUNCHER_CHECK_NS

    def open_counters(self, counters: Sequence[str], histograms: Sequence[str] = ()) -> CountersPage:
        """Create this process's counters page, once, before the first `beat`. Counts of a former run are continued.

        Raises:
            SegmentInUseError: a live process of the same name holds the page.
        """
        assert self._counters is None, "counters are opened once"
        self._counters = CountersPage.create(self.run_folder, self.name, counters, histograms)
        return self._counters

    @property
    def counters(self) -> CountersPage:
        """The page that `open_counters` made."""
        assert self._counters is not None, "open_counters comes first"
        return self._counters

    def beat(self) -> None:
        """Write a heartbeat; call it in every turn of the loop. Writes ten times a second at most, else takes 100 ns.

        The first one ends the start phase: from then on the launcher kills the process after `heartbeat_timeout_s`
        without a heartbeat, or after `recovery_timeout_s` while its gauge `RECOVERING` is 1.
        """
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + _BEAT_NS
            self.counters.beat()
            if now_ns >= self._release_at_ns:
                # By now all kernels are loaded. Without this the compiler's code stays in the memory of each process.
                host.release_code_pages("libllvmlite")
                self._release_at_ns = _NEVER_NS

    @property
    def stopping(self) -> bool:
        """Whether to end now: a stop was requested, the launcher has died, or a file that this process writes was
        removed or damaged. Checks the launcher and the files twice a second.

        Without this an orphan would go on sending data or orders unsupervised, or a writer into a file without readers.
        """
        if not self._stopping and self._launcher is not None:
            now_ns = time.monotonic_ns()
            if now_ns >= self._next_launcher_check_ns:
                self._next_launcher_check_ns = now_ns + _LAUNCHER_CHECK_NS
                host.descriptor_reserve.take()
                if not self._launcher.is_alive():
                    self.log.warning("launcher is gone, stopping", launcher_pid=self._launcher.pid)
                    self._stopping = True
                else:
                    self.check_files()
        return self._stopping

    def request_stop(self) -> None:
        """Make `stopping` true. Safe in a signal handler and from any thread."""
        self._stopping = True

    def check_files(self) -> None:
        """Make `stopping` true if a file that this process writes was removed or damaged; some 5 us a file."""
        if not self.lost_file and (damage := find_damage()):
            self.stop_for_lost_file(damage)

    def stop_for_lost_file(self, damage: str) -> None:
        """Make `stopping` true; the launcher starts this process again. `damage`: which file, and what became of it."""
        self.log.error("a file of this process was lost, it is restarted", damage=damage)
        self.lost_file = damage
        self._stopping = True

    def sleep(self, seconds: float) -> bool:
        """Sleep with heartbeats; returns early when the process is to stop. Returns `stopping`."""
        deadline = time.monotonic() + seconds
        while not self.stopping:
            self.beat()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(left_s, _NAP_S))
        return True

    def close(self) -> None:
        """End cleanly: the counters stay readable, with the state "closed" instead of "dead writer"."""
        if self._counters is not None:
            self._counters.close()


def describe_recovery(counters: Mapping[str, int]) -> str:
    """Return "recovering, 41 %" for the counters of a process that rebuilds its state; else an empty text."""
    if not counters.get(RECOVERING):
        return ""
    return f"recovering, {counters.get(RECOVERED_PERMILLE, 0) // 10} %"


def run_process(name: str, run_folder: Path, launcher: str | None = None) -> int:
    """Run one process of the launch file to its end, in this process; returns the exit code.

    Args:
        launcher: the one that started this process (`ProcessId.text`). When it has died and the next launcher has
            already written its own launch file, this process ends at once: else two processes would feed the same
            platform, one of them unsupervised.
    """
    try:
        try:
            launch = LaunchFile.read(run_folder)
        except ConfigError as error:
            if launcher is None:
                raise
            # Our launcher has written it: it was removed or damaged since, and the launcher writes it again.
            print(f"{name}: {error}", file=sys.stderr)
            return EXIT_FILES
        if launcher is not None and launch.launcher.text != launcher:
            print(f"{name}: launcher {launcher} is gone, {launch.launcher.text} has its run folder", file=sys.stderr)
            return EXIT_CLEAN
        spec = launch.processes.get(name)
        if spec is None:
            raise ConfigError(f"process was {name!r}; {LAUNCH_FILE} has {', '.join(launch.processes)}")
        disk = launch.config.disk
        log = set_up_logs(
            name,
            launch.config.log_path,
            launch.config.log_level,
            console=launch.console,
            keep_days=disk.log_keep_days,
            stop_below_bytes=disk.logs_stop_bytes,
        )
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_CONFIG
    context = ProcessContext(name, run_folder, launch.config, spec.arguments, log=log, launcher=launch.launcher)
    restore = host.on_stop_request(context.request_stop)
    try:
        if spec.cores:
            # Before the entry is imported: threads started by its libraries inherit the pinning, and keep theirs.
            _pin(spec.cores, log)
        entry: Callable[[ProcessContext], int] = load_entry(spec.entry, f"entry of {name}")
        log.debug("process starts", entry=spec.entry, cores=list(spec.cores))
        code = _call_entry(entry, context)
    except Exception as error:
        code = _judge_failure(error, log)
    finally:
        restore()
    if context.lost_file:  # whatever it ended with: the loss is the cause, and no fault of the process
        code = EXIT_FILES
    log.debug("process ends", exit_code=code)
    return code


def _judge_failure(error: Exception, log: Log) -> int:
    """Log why a process ends, and return its exit code."""
    if host.is_want_of_resources(error):
        log.error("the system has no descriptor or memory for this process, it is restarted", reason=str(error))
        return EXIT_RESOURCES
    if isinstance(error, ConfigError):
        log.error("configuration error, will not be restarted", reason=str(error))
        return EXIT_CONFIG
    if isinstance(error, GatewayError):
        log.error("process failed", reason=str(error))
    else:
        log.exception("process failed")
    return EXIT_FAILURE


def _call_entry(entry: Callable[[ProcessContext], int], context: ProcessContext) -> int:
    try:
        code = int(entry(context))
    except Exception:
        # Before the segments are closed with the frames that hold them: a loss may be the cause of the exception.
        context.check_files()
        raise
    context.close()
    return code


def _pin(cores: Sequence[int], log: Log) -> None:
    try:
        if not host.pin_process(cores):
            log.warning("this system cannot pin processes to cores", cores=list(cores))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cores was {list(cores)}, this process may use {list(host.available_cores())}; correct `cores`"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of a child process; the launcher writes it."""
    parser = argparse.ArgumentParser(prog="nexus_gateway.core.process", description="Run one process of a launch file.")
    parser.add_argument("name")
    parser.add_argument("--run-folder", type=Path, required=True)
    parser.add_argument("--launcher", help="pid:started_ms of the launcher; leave it out to run unsupervised")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    host.guard_process()
    host.descriptor_reserve.take()
    host.sharpen_timers()
    return run_process(options.name, options.run_folder, options.launcher)


if __name__ == "__main__":
    sys.exit(main())
