"""Running the command line as a user does: a process, its exit code, stdout, stderr."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .patience import patient

REPOSITORY = Path(__file__).resolve().parents[2]
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "nexus_gateway.core.cli", *map(str, arguments)]


def environment(home: Path) -> dict[str, str]:
    """The user's own folders moved below `home`: no log or recording of a test lands in the real ones."""
    kernels = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "nexus-gateway" / "kernels"
    return {
        **os.environ,
        "XDG_DATA_HOME": str(home),
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(kernels)),
    }


def run_command(home: Path, *arguments: object, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=patient(timeout_s),
        check=False,
    )


def start_command(home: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stop_command(process: subprocess.Popen[str], timeout_s: float = 60) -> tuple[int, str, str]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=patient(timeout_s))
    return process.returncode, out, err


def one_json_object(text: str) -> dict[str, Any]:
    """Stdout of a `--json` command: exactly one object on one line."""
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0, what: str = "condition") -> None:
    deadline_s = time.monotonic() + patient(timeout_s)
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come true within {patient(timeout_s):g} s"
        time.sleep(0.02)
