"""The process that starts a platform's bridge on this machine and watches it: the launcher's child `<platform>_bridge`.

It lives as long as the bridge does. When that ends or hangs, this process ends, too, and the launcher starts it again
with its own pauses and limits. How a hung platform is told from a busy one: before each call that may be long the
bridge writes into its pulse file until when it may be silent (bridges/mt5/README.md). Past that it is killed, which
loses nothing: orders and positions live at the platform, and each new session begins with a snapshot.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ..core.config import convert_settings
from ..core.errors import ConfigError
from ..core.process import EXIT_CLEAN, EXIT_CONFIG, EXIT_FAILURE, ProcessContext, ProcessId, load_entry
from ..shm import host
from ..shm.tick import Platform
from .bridge_settings import BridgeSettings
from .order_settings import split_settings

COUNTERS: Final = ("bridge_running", "bridge_starts", "bridge_hang_kills", "bridge_orphans_ended")
TOKEN_VARIABLE: Final = "NEXUS_GATEWAY_BRIDGE_TOKEN"
BRIDGE_EXIT_CONFIG: Final = 2
_NS_PER_S: Final = 1_000_000_000
_TURN_S: Final = 0.1
_STDERR: Final = 2
_STOP_GRACE_S: Final = 3.0
_PULSE_GRACE_NS: Final = 2 * _NS_PER_S
_OWN_PAUSE_NS: Final = _NS_PER_S


class Pulse(msgspec.Struct, frozen=True):
    """What the bridge says of itself in its pulse file; times in UTC ns of this machine."""

    pid: int
    boot_id: str
    at_ns: int
    until_ns: int
    doing: str = ""


@dataclass(frozen=True)
class BridgeFiles:
    """Files of one bridge in the run folder."""

    folder: Path
    platform: str

    @property
    def configuration(self) -> Path:
        return self.folder / f"{self.platform}.bridge.json"

    @property
    def pulse(self) -> Path:
        return self.folder / f"{self.platform}.bridge.pulse"

    @property
    def identity(self) -> Path:
        """Which very process it is: a successor ends it when it has outlived its starter."""
        return self.folder / f"{self.platform}.bridge.process"

    @property
    def token(self) -> Path:
        """Made by the adapter, where the settings name no other."""
        return self.folder / f"{self.platform}.bridge.token"


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
    """One life of one bridge. Used by the main thread of its process."""

    def __init__(
        self,
        context: ProcessContext,
        settings: BridgeSettings,
        files: BridgeFiles,
        where: str,
        *,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Raises ConfigError: the settings start no bridge."""
        start = settings.native_start(Platform.parse(files.platform))
        if start is None:
            raise ConfigError(f"{where}: no bridge is started for {files.platform}; write backend: native")
        self._plan = start
        self._context = context
        self._settings = settings
        self._files = files
        self._where = where
        self._utc_ns = utc_ns
        self._looked_ns = utc_ns()
        self._started_until_ns = 0
        self._slept_until_ns = 0

    def run(self) -> int:
        """Start it and stay with it; the exit code of this process.

        Raises:
            ConfigError: it cannot be started.
        """
        counters = self._context.counters
        counters.counter("bridge_running").set(0)
        self._end_orphan()
        token = self._wait_for_token()
        if token is None:
            return EXIT_CLEAN
        process = self._start(token)
        counters.counter("bridge_starts").add()
        counters.counter("bridge_running").set(1)
        try:
            while not self._context.stopping:
                self._context.beat()
                try:
                    code = process.wait(_TURN_S)
                except subprocess.TimeoutExpired:
                    if not self._is_silent_too_long():
                        continue
                    counters.counter("bridge_hang_kills").add()
                    host.kill_tree(process.pid)
                    return EXIT_FAILURE
                return self._judge_exit(code)
            return EXIT_CLEAN
        finally:
            self._stop(process)
            counters.counter("bridge_running").set(0)

    def _end_orphan(self) -> None:
        try:
            before = msgspec.json.decode(self._files.identity.read_bytes(), type=ProcessId)
        except (FileNotFoundError, msgspec.DecodeError):
            return
        if before.is_alive():
            self._context.log.warning("ending the bridge that a dead starter has left", bridge_pid=before.pid)
            host.kill_tree(before.pid)
            self._context.counters.counter("bridge_orphans_ended").add()

    def _wait_for_token(self) -> str | None:
        """The token, which the adapter makes; None when this process is to stop first."""
        settings = self._settings
        if settings.token_file is not None or settings.token_env is not None:
            return settings.read_token(self._where)
        while not self._files.token.exists():
            if self._context.sleep(_TURN_S):
                return None
        return self._files.token.read_text(encoding="ascii").strip()

    def _start(self, token: str) -> subprocess.Popen[bytes]:
        files, plan = self._files, self._plan
        files.pulse.unlink(missing_ok=True)
        # Not in the run folder, which is memory on Linux: a broker may have rewritten what names our orders.
        journal = self._context.config.journal_path
        journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        ids_file = journal.with_name(f"{journal.stem}.{files.platform}.ids")
        content = {"ids_file": str(ids_file)} | plan.configuration
        content |= {"token_env": TOKEN_VARIABLE, "pulse_file": str(files.pulse)}
        host.replace_private(files.configuration, msgspec.json.encode(content))
        command = [*plan.command, str(files.configuration)]
        try:
            process = subprocess.Popen(
                [*command, "--stdin-lifeline"],
                stdin=subprocess.PIPE,
                stdout=_STDERR,
                env=os.environ | {TOKEN_VARIABLE: token},
                **host.child_options(),
            )
        except OSError as error:
            raise ConfigError(
                f"{self._where}: the bridge could not be started with {command[0]!r} ({error}); correct "
                "native.interpreter"
            ) from error
        identity = ProcessId(process.pid, host.started_ms(process.pid) or 0)
        host.replace_private(files.identity, msgspec.json.encode(identity))
        self._started_until_ns = self._utc_ns() + int(plan.start_timeout_s * _NS_PER_S)
        self._context.log.info("bridge started", bridge_pid=process.pid, command=command)
        return process

    def _is_silent_too_long(self) -> bool:
        now_ns = self._utc_ns()
        paused_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        if paused_ns > _OWN_PAUSE_NS:
            # This process itself was asleep, and maybe the bridge, too: it gets its time again.
            self._slept_until_ns = now_ns + _PULSE_GRACE_NS
        pulse = self._read_pulse()
        doing, until_ns = "its start", self._started_until_ns
        if pulse is not None:
            doing, until_ns = pulse.doing, pulse.until_ns + _PULSE_GRACE_NS
        over_ns = now_ns - max(until_ns, self._slept_until_ns)
        if over_ns <= 0:
            return False
        self._context.log.error(
            "the bridge hangs, ending it",
            doing=doing,
            over_ms=over_ns // 1_000_000,
            cure="if the next one hangs as well, the terminal does: close it by hand",
        )
        return True

    def _read_pulse(self) -> Pulse | None:
        try:
            return msgspec.json.decode(self._files.pulse.read_bytes(), type=Pulse)
        except (OSError, msgspec.DecodeError):
            return None  # not written yet, or being replaced: the next look is in a moment

    def _judge_exit(self, code: int) -> int:
        if code == BRIDGE_EXIT_CONFIG:
            self._context.log.error("the bridge refuses its configuration or its terminal: see its lines above")
            return EXIT_CONFIG
        self._context.log.warning("the bridge has ended", exit_code=code)
        return EXIT_FAILURE

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """Close its lifeline; kill it when it does not go by itself."""
        assert process.stdin is not None
        process.stdin.close()
        deadline = time.monotonic() + _STOP_GRACE_S
        while process.poll() is None and time.monotonic() < deadline:
            self._context.beat()
            time.sleep(_TURN_S / 2)
        if process.poll() is None:
            host.kill_tree(process.pid)
            process.wait()
        self._files.identity.unlink(missing_ok=True)
