"""Write the heartbeat file for the supervisor."""

from __future__ import annotations

import json
import os
import time

from .constants import HANG_LIMIT_MS, NS_PER_MS, PULSE_S


class Pulse:
    """Heartbeat file for the supervisor: time of the last loop, deadline of the call in progress."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._due_s = 0.0

    def beat(self, now_s: float) -> None:
        """Write the file if PULSE_S has passed since the last time; call it in each loop."""
        if now_s >= self._due_s:
            self.write(now_s, "turning")

    def write(self, now_s: float, doing: str) -> None:
        """Write the file before a call that may block for up to HANG_LIMIT_MS."""
        self._due_s = now_s + PULSE_S
        if self._path is None:
            return
        now_ns = time.time_ns()
        line = {
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "at_ns": now_ns,
            "until_ns": now_ns + HANG_LIMIT_MS * NS_PER_MS,
            "doing": doing,
        }
        fresh = f"{self._path}.new"
        try:
            with open(fresh, "w", encoding="ascii") as target:
                target.write(json.dumps(line) + "\n")
            os.replace(fresh, self._path)
        except OSError:
            pass  # Windows: the supervisor has it open; the next write follows within PULSE_S
