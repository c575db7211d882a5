"""Moves old events out of the journal while the gateway trades: another process writes, idle turns remove.

A process writes and checks the archive, reading the journal only. What it reports is confirmed in the journal, and the
archived rows are removed in idle turns, a millisecond each. A crash at any moment loses nothing: rows are removed only
after their archive was confirmed, and an archive that was not confirmed is found by the next process.
"""

from __future__ import annotations

import io
import sqlite3
import subprocess
import tempfile
from contextlib import ExitStack
from typing import IO, Final

import msgspec

from ...shm import host
from ...shm.durations import NS_PER_DAY, NS_PER_HOUR
from ..journal import Journal, JournalError
from ..journal.retention import ArchiveEntry, confirm_archive, has_written, last_due_seq, remove_step
from ..logs import Log

_MODULE: Final = "nexus_gateway.core.journal.retention"
_FAULTS: Final = (JournalError, OSError, sqlite3.Error, msgspec.MsgspecError, ValueError)
"""What a damaged journal, a full disk, or a process that was killed within a line raises: trading goes on."""


class JournalArchiving:
    """Owned by the gateway's thread. Call `step` in turns in which nothing happened, and `close` at the end."""

    def __init__(self, journal: Journal, keep_days: int | None, stop_below_bytes: int, log: Log) -> None:
        """`keep_days`: of events in the journal; None = none becomes too old. `stop_below_bytes`: no archive is made
        with less free space on its disk; 0 = whatever is free.
        """
        self._journal = journal
        self._stop_below_bytes = stop_below_bytes
        self._keep_days = keep_days
        self._log = log
        self._writer: subprocess.Popen[bytes] | None = None
        self._files = ExitStack()
        self._output: IO[bytes] = io.BytesIO()
        self._errors: IO[bytes] = io.BytesIO()
        self._removing = True  # a former process may have been stopped in between
        self._next_ns = 0
        self._retry_ns = 0

    def step(self, now_ns: int) -> None:
        """Do one short thing that is due. `now_ns`: the engine's time. What fails is logged and tried an hour later."""
        try:
            if self._writer is not None:
                self._finish_writing(now_ns)
            elif self._removing and now_ns >= self._retry_ns:
                self._retry_ns = now_ns + NS_PER_HOUR  # when the step raises
                self._removing = remove_step(self._journal.connection)
                self._retry_ns = 0
            elif now_ns >= self._next_ns:
                # At the change of the day: what became old enough during a day is one archive.
                self._next_ns = (now_ns // NS_PER_DAY + 1) * NS_PER_DAY
                if self._is_due(now_ns):
                    self._start_writing(now_ns)
        except _FAULTS as error:
            self._fail(str(error), now_ns)

    def close(self) -> None:
        """End the writing process; what it has not finished is written again after the next start."""
        if self._writer is not None:
            self._writer.kill()
            self._writer.wait()
            self._writer = None
        self._files.close()

    def _is_due(self, now_ns: int) -> bool:
        connection = self._journal.connection
        if has_written(connection):
            return True  # by the command `journal archive`, whatever `keep_days` is here
        return self._keep_days is not None and last_due_seq(connection, self._keep_days, now_ns) > 0

    def _start_writing(self, now_ns: int) -> None:
        interpreter, environment = host.own_interpreter()
        arguments = (self._journal.path.absolute(), self._keep_days or "", now_ns, self._stop_below_bytes)
        # Not pipes: a full one would stop the writer until this thread reads it.
        self._output = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 # closed with `_files`
        self._errors = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 # closed with `_files`
        self._writer = subprocess.Popen(
            [interpreter, "-P", "-m", _MODULE, *map(str, arguments)],
            env=host.child_environment(added=environment),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            **host.child_options(),
        )
        self._log.info("old events are being archived", keep_days=self._keep_days, pid=self._writer.pid)

    def _finish_writing(self, now_ns: int) -> None:
        assert self._writer is not None
        code = self._writer.poll()
        if code is None:
            return
        self._writer = None
        self._removing = True
        self._output.seek(0)
        self._errors.seek(0)
        lines, errors = self._output.readlines(), self._errors.read().decode(errors="replace").strip()
        self._files.close()
        for line in lines:
            entry = msgspec.json.decode(line, type=ArchiveEntry)
            confirm_archive(self._journal.connection, entry)
            self._log.info("events archived", archive=entry.name, first_seq=entry.first_seq, last_seq=entry.last_seq)
        if code:
            self._fail(errors or f"exit code {code}", now_ns)

    def _fail(self, reason: str, now_ns: int) -> None:
        self._files.close()
        self._next_ns = now_ns + NS_PER_HOUR
        self._log.warning("old events stay in the journal for now", reason=reason, retry_s=NS_PER_HOUR // 10**9)
