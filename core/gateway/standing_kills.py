"""The kill file as the gateway obeys it: compared with the engine's kill levels again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..engine import EngineState
from ..kill_file import KillEntry, kill_level_of, lower_severed, read_kill_file, remove_kills
from ..logs import Log
from ..messages import Kill, KillLevel, Resume


class StandingKills:
    """Used by the gateway's thread."""

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._resumed: list[tuple[Resume, bool, int]] = []
        self.level = KillLevel.NORMAL

    def due(self, find_state: Callable[[], EngineState]) -> Iterator[Kill]:
        """The commands that the ladder does not stand at yet, looked at anew before each; `level` is the file's highest
        from then on.
        """
        kills = read_kill_file(self._path)
        self.level = max((kill.level for kill in kills), default=KillLevel.NORMAL)
        for kill in kills:
            if _stands_at(find_state(), kill):
                continue
            self._log.warning(
                "kill file obeyed", level=kill.level.name, platform=kill.platform, by=kill.by, reason=kill.reason
            )
            yield Kill(
                request_id=0,
                level=kill.level,
                reason=kill.reason[:512],
                by=kill.by[:64] or "kill file",
                platform=kill.platform,
                own_only=kill.own_only,
            )

    def level_of(self, platform: str) -> KillLevel:
        """What the file says of a platform now."""
        return kill_level_of(read_kill_file(self._path), platform)

    def note_resume(self, resume: Resume, accepted: bool) -> None:
        """The operator has resumed, or has tried to; see `lift`."""
        self._resumed.append((resume, accepted, time.time_ns()))

    def lift(self) -> None:
        """Take back what was resumed: only after the commit, since had the journal not taken the resume, the next start
        must still find the kill instruction. One that was not accepted may still have let severed links come up again,
        which is how they get reconciled.
        """
        for resume, accepted, at_ns in self._resumed:
            change = remove_kills if accepted else lower_severed
            try:
                change(self._path, resume.platform, at_ns)
            except OSError as error:
                # It is obeyed again at the next look: stopped for nothing is better than a gateway that is gone.
                self._log.error("the kill file cannot be changed and stays in force", reason=str(error))
        self._resumed.clear()


def _stands_at(state: EngineState, kill: KillEntry) -> bool:
    """Whether the ladder is there already: flattening once more would close what was opened by hand since.

    Asked anew at each look: the kill instruction holds for an account that connects only now as well.
    """
    if _reaches(state.kill, state.kill_own_only, kill):
        return True
    routes = [name for name, route in state.routes.items() if route.platform == kill.platform]
    records = [state.kills.get(name) for name in routes]
    return bool(kill.platform) and all(r is not None and _reaches(r.level, r.own_only, kill) for r in records)


def _reaches(level: KillLevel, own_only: bool, kill: KillEntry) -> bool:
    return level >= kill.level and (kill.own_only or not own_only or kill.level < KillLevel.CANCEL_ALL)
