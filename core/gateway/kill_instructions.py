"""The kill file as the gateway obeys it: a kill instruction stays in force until it is resumed.

The file is compared with the engine's kill levels at each check, and only what the engine has not reached yet is
given to it. So an instruction that was written while the gateway was down holds as soon as it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..engine import AnswerAdmin, Effect, EngineState
from ..kill_file import KillEntry, KillFileError, kill_level_of, lower_severed, read_kill_file, remove_kills
from ..logs import Log
from ..messages import AdminResult, Kill, KillLevel, Resume


class KillInstructions:
    """Used by the gateway's thread.

    Attributes:
        level: the highest level in the file when it was read last.
        trouble: why the file cannot be opened for want of descriptors or memory; empty = it was read. No kill, but
            entries have to be refused meanwhile.
    """

    def __init__(self, path: Path, log: Log) -> None:
        self._path = path
        self._log = log
        self._resumed: list[tuple[Resume, bool, tuple[KillEntry, ...]]] = []
        self.level = KillLevel.NORMAL
        self.trouble = ""

    def pending(self, find_state: Callable[[], EngineState]) -> Iterator[Kill]:
        """Read the file and yield each instruction that the engine has not reached.

        `find_state` is called before each one: obeying one instruction may have reached the level of the next.
        """
        try:
            kills = read_kill_file(self._path)
        except KillFileError as error:
            self.trouble = f"the kill file {error.strerror}"
            return
        self.trouble = ""
        self.level = max((kill.level for kill in kills), default=KillLevel.NORMAL)
        for kill in kills:
            if _is_reached(find_state(), kill):
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
        """Read the file and return the kill level that it demands for a platform; `no_new` while it cannot be read."""
        try:
            return kill_level_of(read_kill_file(self._path), platform)
        except KillFileError:
            return KillLevel.NO_NEW

    def note_resume(self, resume: Resume, accepted: bool) -> None:
        """Remember a resume of the operator for `remove_resumed`, also one that the engine refused."""
        try:
            given = read_kill_file(self._path)
        except KillFileError:
            given = ()  # which was meant is not known: what is in the file is obeyed again
        self._resumed.append((resume, accepted, given))

    def remove_resumed(self) -> None:
        """Remove from the file what was resumed. Call it only after the commit.

        Removed earlier, an instruction would be lost if the process died before the journal held the resume: the next
        start would find neither. After a refused resume only `sever` is lowered: the engine may let severed links
        come up again, since a platform cannot be reconciled, and so never be resumed, without its link.
        """
        for resume, accepted, given in self._resumed:
            change = remove_kills if accepted else lower_severed
            try:
                change(self._path, resume.platform, given)
            except OSError as error:
                # The next check obeys it again. Stopped without need is better than a gateway that has ended.
                self._log.error("the kill file cannot be changed and stays in force", reason=str(error))
        self._resumed.clear()


def was_accepted(effects: list[Effect]) -> bool:
    """Whether the engine has accepted the operator's command that had these effects."""
    return any(
        isinstance(effect, AnswerAdmin) and isinstance(effect.message, AdminResult) and effect.message.accepted
        for effect in effects
    )


def _is_reached(state: EngineState, kill: KillEntry) -> bool:
    """Whether the engine already stands at the instruction's level; given again, `flatten` would close what an
    operator has opened at the platform since.

    Asked at each check, not once: an account that connects later falls under the instruction as well.
    """
    if _covers(state.kill, state.kill_own_only, kill):
        return True
    routes = [key for key, each in state.routes.items() if each.platform == kill.platform and not each.retired_ns]
    records = [state.kills.get(name) for name in routes]
    return bool(kill.platform) and all(r is not None and _covers(r.level, r.own_only, kill) for r in records)


def _covers(level: KillLevel, own_only: bool, kill: KillEntry) -> bool:
    # Below CANCEL_ALL `own_only` makes no difference: nothing is cancelled or closed yet.
    return level >= kill.level and (kill.own_only or not own_only or kill.level < KillLevel.CANCEL_ALL)
