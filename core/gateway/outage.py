"""What the gateway does while its journal cannot be written: no room on the disk, or the file is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ..journal import RESCUED, JournalError, JournalLostError, Loss, copy_database
from ..logs import Log
from ..messages import RejectCode
from ..process import ProcessContext
from ..transport import LinkServer
from .counters import GatewayCounters
from .journaled_engine import JournaledEngine

_RETRY_S: Final = 0.5
_RESCUE_AFTER: Final = 4
"""Tries before the content of a file that is gone is saved: one that is only renamed is back by then, perhaps."""


class JournalOutage:
    """Cuts all links and waits until the journal can be written. Used by the gateway's thread."""

    def __init__(
        self,
        context: ProcessContext,
        journaled: JournaledEngine,
        servers: Sequence[LinkServer],
        counters: GatewayCounters,
    ) -> None:
        self._context = context
        self._log: Log = context.log
        self._journaled = journaled
        self._servers = servers
        self._counters = counters
        self._rescue_failure = ""

    def check_files(self) -> None:
        """Look at the journal's files, also when nothing is to be written: an idle gateway must notice their loss too.

        Raises: JournalError as `wait` does.
        """
        try:
            self._journaled.journal.check_files()
        except JournalError as error:
            self.wait(error)

    def wait(self, error: JournalError) -> None:
        """Cut all links and wait until the journal can be written.

        Links are cut because a gateway that is connected but cannot journal looks healthy: NEXUS would wait for a
        report, and an adapter's fills would fill the queues. Cut, each side sees it at once, and after the reconnect
        the platforms are asked what they hold. The turn's effects stay held: they leave after the commit that follows,
        or never, when the process is stopped here.

        Raises:
            JournalError: the process was stopped meanwhile; or only a new start helps, which the launcher makes.
        """
        self._log.error("the journal cannot be written: all trading stops until it can", reason=str(error))
        for server in self._servers:
            for peer in server.peers:
                server.cut(peer, "the gateway's journal cannot be written", RejectCode.LINK_DOWN)
        tries, is_rescued = 0, False
        while True:
            tries += 1
            self._counters.add("journal_failures")
            loss = error.loss if isinstance(error, JournalLostError) else None
            if loss is Loss.SIDE_MISSING and self._is_log_moved():
                raise error
            stops = self._context.sleep(_RETRY_S)
            if loss in (Loss.MISSING, Loss.REPLACED) and not is_rescued and (stops or tries >= _RESCUE_AFTER):
                is_rescued = self._rescue()
            if stops:
                raise error
            try:
                self._journaled.retry()
            except JournalError as again:
                if str(again) != str(error):
                    self._log.error("the journal still cannot be written", reason=str(again))
                error = again
                continue
            self._log.warning("the journal can be written again")
            return

    def _is_log_moved(self) -> bool:
        """Whether all of the deleted write-ahead log is in the journal now, so that a new start finds all of it."""
        try:
            self._journaled.journal.move_log_into_file()
        except JournalError as error:
            self._log.error("the write-ahead log was deleted and could not be saved, trying again", reason=str(error))
            return False
        self._log.warning(
            "the write-ahead log was deleted; its content is in the journal now, the gateway is restarted"
        )
        return True

    def _rescue(self) -> bool:
        """Save what only the open file holds: it is gone from the disk with the end of this process. Its archives stay
        where they are. Returns whether it is saved.
        """
        journal = self._journaled.journal
        target = next(path for path in _rescue_paths(journal.real_path) if not path.exists())
        try:
            # With heartbeats, also during a stop: killed for silence, the process would take the only copy with it.
            copy_database(journal.connection, target, self._context.beat)
        except JournalError as error:
            if str(error) != self._rescue_failure:
                self._rescue_failure = str(error)
                self._log.error(
                    "the content of the lost journal could not be saved, it is tried again for as long as the gateway "
                    "runs; with its end the content is lost",
                    file=str(target),
                    reason=str(error),
                )
            return False
        self._log.error(
            "the journal's file is lost, its content is saved: put the file back by its name, or stop the gateway, "
            "rename the saved file to the journal's name and start it again",
            journal=str(journal.path),
            saved=str(target),
            events=journal.last_seq,
        )
        return True


def _rescue_paths(journal: Path) -> Iterator[Path]:
    yield Path(f"{journal}{RESCUED}")
    yield from (Path(f"{journal}{RESCUED}-{number}") for number in itertools.count(2))
