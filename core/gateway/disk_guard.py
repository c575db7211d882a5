"""Stops entries on all platforms when the journal's disk is nearly full: what is left is for exits and fills."""

from __future__ import annotations

from typing import Final

from ...shm.durations import NS_PER_S
from ..engine import EngineState
from ..journal import JournalRoom
from ..logs import Log
from ..messages import Kill, KillLevel

_CHECK_NS: Final = NS_PER_S


class DiskGuard:
    """Owned by the gateway's thread; call `step` in every turn."""

    def __init__(self, room: JournalRoom, entries_stop_bytes: int, log: Log) -> None:
        """`entries_stop_bytes`: entries are refused with less free space; 0 = they never are."""
        self._room = room
        self._entries_stop_bytes = entries_stop_bytes
        self._log = log
        self._had_reserve = not room.is_reserve_missing
        self._next_ns = 0

    def step(self, now_ns: int, state: EngineState) -> Kill | None:
        """Check the disk once a second. Returns the kill level that has to hold from now on, None when none has to.

        It ends by `resume` alone, as every kill does: a person has looked at the disk. `now_ns`: steady.
        """
        if now_ns < self._next_ns:
            return None
        self._next_ns = now_ns + _CHECK_NS
        if self._room.take_reserve():
            self._had_reserve = True
        free = self._room.free_bytes()
        found = []
        if free is not None and free < self._entries_stop_bytes:
            stop_mib = self._entries_stop_bytes >> 20
            found.append(f"the journal's disk has {free >> 20} MiB free, entries stop below {stop_mib} MiB")
        if self._had_reserve and self._room.is_reserve_missing:
            found.append(f"the journal's reserve of {self._room.reserve_bytes >> 20} MiB is used up")
        if not found or state.kill >= KillLevel.NO_NEW:
            return None
        reason = f"{', and '.join(found)}: make room, then resume; exits and stops go on"
        self._log.error("entries are stopped, the journal's disk is nearly full", free_bytes=free, reason=reason)
        return Kill(request_id=0, level=KillLevel.NO_NEW, reason=reason, by="gateway", own_only=True)
