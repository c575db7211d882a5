"""The real bridge of MetaTrader 5 as a process of its own, against a stand-in terminal."""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nexus_gateway.bridges.mt5 import mt5_bridge

from tests.mt5_terminal.control import StandIn
from tests.mt5_terminal.presets import PRESETS
from tests.support.patience import patient
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bridges" / "mt5" / "mt5_bridge"
SCRIPT = Path(os.environ.get("MT5_BRIDGE", SOURCE))
"""The bridge as it is started: its folder, or the archive that the environment names."""
PATIENCE_S = 30.0


@functools.cache
def load_bridge() -> SimpleNamespace:
    """All names of the bridge's modules in one namespace, for tests of its pure parts."""
    names: dict[str, Any] = {}
    for module in pkgutil.iter_modules(mt5_bridge.__path__, f"{mt5_bridge.__name__}."):
        names |= vars(importlib.import_module(module.name))
    return SimpleNamespace(**names)


def find_old_python() -> str | None:
    """A Python 3.9, the oldest that runs the bridge."""
    places = [*Path.home().glob(".pyenv/versions/3.9.*/bin/python"), shutil.which("python3.9")]
    for place in map(str, filter(None, places)):
        # A launcher of that name may stand there without the version it is for.
        if subprocess.run([place, "--version"], capture_output=True).returncode == 0:
            return place
    return None


class BridgeProcess:
    """The bridge for one stand-in. Started with `start`; `settings` are changes to its configuration.

    Attributes:
        clock: what the bridge believes of the server's.
        program: folder or archive that is started.
    """

    def __init__(self, stand_in: StandIn, folder: Path, preset: str, platform: str = "mt5", **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.program = SCRIPT
        self.port = free_port()
        self.token = secrets.token_hex(16)
        self.token_file = folder / "bridge.token"
        self.config_file = folder / "bridge.json"
        self.log_file = folder / "bridge.log"
        self._stand_in = stand_in
        self._process: subprocess.Popen[bytes] | None = None
        account = PRESETS[preset].account
        clock = {"futures": {"utc_offset_minutes": 0, "dst": "none", "mode": "configured"}}.get(preset)
        self.config = {
            "platform": platform,
            "terminal_path": str(stand_in.exe),
            "login": account["login"],
            "server": account["server"],
            "company": account["company"],
            "port": self.port,
            "token_file": str(self.token_file),
            "backoff_ms": 50,
            "pulse_file": str(folder / "bridge.pulse"),
            "log_level": "debug",
            **({"clock": clock} if clock else {}),
            **settings,
        }
        self.write_token(self.token)
        bridge = load_bridge()
        self.clock = bridge.ServerClock(self.config.get("clock") or bridge.CLOCKS[platform])

    def write_token(self, token: str) -> None:
        """The bridge's own; `self.token` stays what the adapter is told."""
        self.token_file.touch(0o600)
        os.chmod(self.token_file, 0o600)
        self.token_file.write_text(token)

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start its process; does not wait for it."""
        if self._process is not None:
            self._process.wait(patient(PATIENCE_S))  # whoever killed it
        self.config_file.write_text(json.dumps(self.config))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", str(self.program), str(self.config_file), *arguments],
                env=self._stand_in.environment(),
                **{"stdout": log, "stderr": log, **streams},
            )
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(patient(PATIENCE_S))

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def pulse(self) -> dict[str, Any]:
        return dict(json.loads(Path(str(self.config["pulse_file"])).read_text()))

    def close(self) -> None:
        if self.is_running:
            self.kill()
