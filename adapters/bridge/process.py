"""The process that starts and watches a platform's bridge on this machine: the launcher's child `<platform>_bridge`.

It ends when the bridge ends or hangs; the launcher starts it again, with its own back-off and limits. Two bridges of
one platform (orders and ticks) start and end together.

A hung bridge is told from a busy one by its pulse file: at least once a second, and before each long call, the bridge
writes until when it may be silent (bridges/mt5/README.md). After that time it is killed. Nothing is lost: orders and
positions are at the platform, and each new session begins with a snapshot.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import psutil

from ...core.config import convert_settings, load_entry
from ...core.errors import ConfigError
from ...core.process import EXIT_CLEAN, EXIT_CONFIG, EXIT_FAILURE, ProcessContext, ProcessId
from ...shm import host
from ...shm.durations import NS_PER_MS, NS_PER_S
from ...shm.tick import Platform
from ..order_settings import split_settings
from .settings import BridgeSettings, BridgeStart
from .token_file import read_token

COUNTERS: Final = ("bridge_running", "bridge_starts", "bridge_hang_kills", "bridge_orphans_ended")
TOKEN_VARIABLE: Final = "NEXUS_GATEWAY_BRIDGE_TOKEN"
BRIDGE_EXIT_CONFIG: Final = 2
_TURN_S: Final = 0.1
_STDERR: Final = 2
_STOP_GRACE_S: Final = 3.0
_PULSE_GRACE_NS: Final = 2 * NS_PER_S
_OWN_PAUSE_NS: Final = NS_PER_S


class Pulse(msgspec.Struct, frozen=True):
    """Content of the bridge's pulse file; times in UTC ns of this machine."""

    pid: int
    boot_id: str
    at_ns: int
    until_ns: int
    doing: str = ""


@dataclass(frozen=True)
class BridgeFiles:
    """Files of one bridge in the run folder. `part`: see `BridgeStart`."""

    folder: Path
    platform: str
    part: str = ""

    @property
    def configuration(self) -> Path:
        return self._own("json")

    @property
    def pulse(self) -> Path:
        return self._own("pulse")

    @property
    def identity(self) -> Path:
        """Process id and start time of the bridge, by which the next keeper finds and ends an orphan."""
        return self._own("process")

    @property
    def token(self) -> Path:
        """Token file, written by the adapter when the settings name none; the same for both bridges."""
        return self.folder / f"{self.platform}.bridge.token"

    def _own(self, ending: str) -> Path:
        part = f".{self.part}" if self.part else ""
        return self.folder / f"{self.platform}.bridge{part}.{ending}"


def main(context: ProcessContext) -> int:
    """Run the bridge of one platform until it ends, hangs, or this process is to stop."""
    name = context.arguments["platform"]
    platform = context.config.platforms[name]
    where = f"platform_configs.yaml: {name}.settings"
    adapter_class = load_entry(platform.adapter, f"platform_configs.yaml: {name}.adapter")
    _, own = split_settings(platform.settings, where)
    settings = convert_settings(adapter_class.SETTINGS, own, where)
    files = BridgeFiles(context.run_folder, name)
    context.open_counters(COUNTERS)
    return BridgeKeeper(context, settings, files, where).run()


class BridgeKeeper:
    """Runs a platform's bridge, or its two bridges, once. Used by the main thread of the process."""

    def __init__(
        self,
        context: ProcessContext,
        settings: BridgeSettings,
        files: BridgeFiles,
        where: str,
        *,
        steady_ns: Callable[[], int] = host.steady_ns,
    ) -> None:
        """Raises ConfigError: the settings start no bridge."""
        starts = settings.native_starts(Platform.parse(files.platform))
        if not starts:
            raise ConfigError(f"{where}: no bridge is started for {files.platform}; write backend: native")
        self._context = context
        self._settings = settings
        self._files = files
        self._where = where
        self.bridges = tuple(
            KeptBridge(context, start, replace(files, part=start.part), where, steady_ns) for start in starts
        )

    def run(self) -> int:
        """Start the bridges and watch them until one ends; returns the exit code of this process.

        Raises:
            ConfigError: a bridge cannot be started.
        """
        counters = self._context.counters
        counters.counter("bridge_running").set(0)
        for bridge in self.bridges:
            bridge.end_orphan()
        token = self._wait_for_token()
        if token is None:
            return EXIT_CLEAN
        try:
            for bridge in self.bridges:
                bridge.start(token)
                counters.counter("bridge_starts").add()
                counters.counter("bridge_running").add()
            return self._watch(token)
        finally:
            for bridge in self.bridges:
                bridge.cut_lifeline()
            for bridge in self.bridges:
                bridge.stop()
            counters.counter("bridge_running").set(0)

    def _watch(self, token: str) -> int:
        """Watch until a bridge has ended or hangs, or this process is asked to stop; returns the exit code."""
        while not self._context.stopping:
            for bridge in self.bridges:
                self._context.beat()
                code = bridge.wait(_TURN_S / len(self.bridges))
                if code is not None:
                    return self._judge_exit(code)
                if bridge.is_silent_too_long():
                    self._context.counters.counter("bridge_hang_kills").add()
                    bridge.kill()
                    return EXIT_FAILURE
            if self._settings.makes_token and self._read_token() not in (None, token):
                # Its file was lost, and the adapter has made another: with the old one the bridge would refuse it.
                self._context.stop_for_lost_file(f"{self._files.token} holds another token")
        return EXIT_CLEAN

    def _wait_for_token(self) -> str | None:
        """Wait for the adapter to write the token, and return it; None when this process is asked to stop first."""
        if not self._settings.makes_token:
            return self._settings.read_token(self._where)
        while (token := self._read_token()) is None:
            if self._context.sleep(_TURN_S):
                return None
        return token

    def _read_token(self) -> str | None:
        """The token that the adapter has made; None while its file is missing, damaged or just being written."""
        try:
            return read_token(self._files.token)
        except ConfigError:
            return None

    def _judge_exit(self, code: int) -> int:
        if code == BRIDGE_EXIT_CONFIG:
            self._context.log.error("the bridge refuses its configuration or its terminal: see its lines above")
            return EXIT_CONFIG
        self._context.log.warning("the bridge has ended", exit_code=code)
        return EXIT_FAILURE


class KeptBridge:
    """One process of a bridge, from its start to its end."""

    def __init__(
        self, context: ProcessContext, start: BridgeStart, files: BridgeFiles, where: str, steady_ns: Callable[[], int]
    ) -> None:
        self._context = context
        self._plan = start
        self._files = files
        self._where = where
        self._steady_ns = steady_ns
        self._looked_ns = steady_ns()
        self._started_until_ns = 0
        self._slept_until_ns = 0
        self._pulse: Pulse | None = None
        self._pulse_seen_ns = 0
        self._process: subprocess.Popen[bytes] | None = None

    def end_orphan(self) -> None:
        """Kill a bridge that a former keeper has left running."""
        try:
            before = msgspec.json.decode(host.read_regular(self._files.identity), type=ProcessId)
        except (FileNotFoundError, host.NotRegularError, msgspec.DecodeError):
            return
        if before.is_alive() and self._is_bridge(before.pid):
            self._context.log.warning("ending the bridge that a dead starter has left", bridge_pid=before.pid)
            host.kill_tree(before.pid)
            self._context.counters.counter("bridge_orphans_ended").add()

    def _is_bridge(self, pid: int) -> bool:
        # A second check before anything is killed: start times have the resolution of the system's clock tick, so
        # another process could have the same pid and start time.
        try:
            return str(self._files.configuration) in " ".join(psutil.Process(pid).cmdline())
        except psutil.Error:
            return False

    def start(self, token: str) -> None:
        """Start the bridge. Raises ConfigError: the program does not exist."""
        files, plan = self._files, self._plan
        files.pulse.unlink(missing_ok=True)
        # The ids file is not in the run folder, which is memory on Linux: where a broker rewrites order comments, it is
        # the only record of which orders are ours, and must survive a reboot.
        journal = self._context.config.journal_path
        journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ids_file = journal.with_name(f"{journal.stem}.{files.platform}.ids")
        content = {"ids_file": str(ids_file)} | plan.configuration
        content |= {"token_env": TOKEN_VARIABLE, "pulse_file": str(files.pulse)}
        host.replace_private(files.configuration, msgspec.json.encode(content))
        command = [*plan.command, str(files.configuration)]
        try:
            self._process = subprocess.Popen(
                [*command, "--stdin-lifeline"],
                stdin=subprocess.PIPE,
                stdout=_STDERR,
                env=host.child_environment(added={TOKEN_VARIABLE: token}),
                **host.child_options(),
            )
        except OSError as error:
            raise ConfigError(
                f"{self._where}: the bridge could not be started with {command[0]!r} ({error}); correct "
                "native.interpreter"
            ) from error
        pid = self._process.pid
        identity = ProcessId(pid, host.started_ms(pid) or 0)
        host.replace_private(files.identity, msgspec.json.encode(identity))
        self._started_until_ns = self._steady_ns() + int(plan.start_timeout_s * NS_PER_S)
        self._context.log.info("bridge started", bridge_pid=pid, command=command)

    def wait(self, seconds: float) -> int | None:
        """Wait for the bridge to end; returns its exit code, None when it still runs after `seconds`."""
        assert self._process is not None, "start comes first"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill the bridge with all its child processes: under Wine, and in a venv of Windows, it is a child itself."""
        if self._process is not None:
            host.kill_tree(self._process.pid)

    def is_silent_too_long(self) -> bool:
        """Whether the bridge is past the time that it wrote into its pulse file.

        Counted from when the file was seen to change: the clock by which the bridge has written it may be set.
        """
        now_ns = self._steady_ns()
        paused_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        if paused_ns > _OWN_PAUSE_NS:
            # This process was suspended, perhaps with the bridge: give the bridge time to write its pulse again.
            self._slept_until_ns = now_ns + _PULSE_GRACE_NS
        # A file that somebody has removed is as if the bridge had not written since.
        pulse = self._read_pulse() or self._pulse
        doing, until_ns = "its start", self._started_until_ns
        if pulse is not None:
            if pulse != self._pulse:
                self._pulse, self._pulse_seen_ns = pulse, now_ns
            announced_ns = pulse.until_ns - pulse.at_ns
            doing, until_ns = pulse.doing, self._pulse_seen_ns + announced_ns + _PULSE_GRACE_NS
        over_ns = now_ns - max(until_ns, self._slept_until_ns)
        if over_ns <= 0:
            return False
        self._context.log.error(
            "the bridge hangs, ending it",
            doing=doing,
            over_ms=over_ns // NS_PER_MS,
            cure="if the next one hangs as well, the terminal does: close it by hand",
        )
        return True

    def cut_lifeline(self) -> None:
        """Ask the bridge to end, by closing its standard input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Ask the bridge to end; kill it when it does not."""
        process = self._process
        if process is None:
            return
        self.cut_lifeline()
        deadline = time.monotonic() + _STOP_GRACE_S
        while process.poll() is None and time.monotonic() < deadline:
            self._context.beat()
            time.sleep(_TURN_S / 2)
        if process.poll() is None:
            self.kill()
            process.wait()
        self._files.identity.unlink(missing_ok=True)

    def _read_pulse(self) -> Pulse | None:
        try:
            return msgspec.json.decode(host.read_regular(self._files.pulse), type=Pulse)
        except (OSError, msgspec.DecodeError):
            return None  # not written yet, or being replaced: it is read again in a moment
