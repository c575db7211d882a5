"""The operator's commands in processes of their own, while the platforms and the NEXUS of a floor go on."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from .trading_floor import Floor


class Answer:
    """Exit code, stdout and stderr of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one object that `--json` prints."""
        (line,) = self.out.splitlines()
        return json.loads(line)


def run(floor: Floor, *words: str, stdin: str = "", meanwhile: Callable[[], object] | None = None) -> Answer:
    """Run a command in its own process while platforms and NEXUS go on; `meanwhile`: after its first line on stderr."""
    with subprocess.Popen(
        _command(floor, words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        if meanwhile is not None:
            assert process.stderr is not None
            said = process.stderr.readline()
            meanwhile()
        floor.until(lambda: process.poll() is not None, patience_s=60)
        out, err = process.communicate()
    return Answer(process.returncode, out, said + err if meanwhile is not None else err)


def run_typing(floor: Floor, *words: str, typed: str) -> Answer:
    """Run a command whose stdin is a terminal, at which a person has typed `typed` and Enter."""
    person, terminal = pty.openpty()
    try:
        os.write(person, f"{typed}\n".encode())
        with subprocess.Popen(
            _command(floor, words), stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            floor.until(lambda: process.poll() is not None, patience_s=60)
            out, err = process.communicate()
    finally:
        os.close(person)
        os.close(terminal)
    return Answer(process.returncode, out, err)


def _command(floor: Floor, words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-P", "-m", "nexus_gateway.core.cli", *words, "--config", str(floor.write_config())]
