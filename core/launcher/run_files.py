"""The files that the launcher keeps in the run folder for all processes: written at the start, watched, written again.

A log-out that clears a user's files below /dev/shm, a cleaner of temporary files, a `rm` in the wrong folder: whatever
happens to them must not end the launcher, which would leave positions without a gateway. Each process watches the files
that it writes itself (`ProcessContext.stopping`); here are the folder, the symbol directory and the launcher's own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...shm import host
from ...shm.counters import Counter, CountersPage
from ...shm.layout import HEADER, SYMBOLS
from ...shm.run_folder import remove_stale_segments, symbols_path
from ...shm.segment import SegmentError
from ...shm.symbols import SymbolDirectory
from ..config import LAUNCHER_NAME, GatewayConfig
from ..errors import GatewayError
from ..logs import Log
from ..process import LAUNCH_FILE, LaunchFile, ProcessId
from .configured_symbols import enter_symbols
from .run_ownership import STATE_FILE, RunOwnership

COUNTERS: Final = (
    "children_configured",
    "children_running",
    "children_failed",
    "starts",
    "restarts",
    "hang_kills",
    "stop_kills",
    "orphans_ended",
    "stale_segments_removed",
    "files_restored",
    "folder_rebuilds",
)
_CHECK_EVERY_S: Final = 0.2


class RunFiles:
    """Used by the launcher's thread."""

    def __init__(self, config: GatewayConfig, launch: LaunchFile, log: Log) -> None:
        self._config = config
        self._folder = config.run_path
        self._launch = launch
        self._log = log
        self._ownership: RunOwnership | None = None
        self._children: dict[str, ProcessId] = {}
        self._folder_status: os.stat_result | None = None
        self._directory_status: os.stat_result | None = None
        self._directory_mtime_ns = 0
        self._ids: list[int] = []
        self._written: dict[Path, tuple[int, int, int]] = {}
        self._next_check_s = 0.0
        self._page: CountersPage | None = None
        self._counters: dict[str, Counter] = {}
        self._trouble = ""

    def open(self, stop_grace_s: float) -> None:
        """Take the folder, end what a dead launcher left in it, and write the files that the processes need.

        Raises:
            RunFolderError, OSError: the folder is in use, not private, full, or its symbols do not agree.
        """
        # The lock comes first: everything below would damage a gateway that runs in this folder.
        self._ownership = RunOwnership(self._folder)
        orphans = self._ownership.end_orphans(stop_grace_s, self._log)
        # Only now: an orphan that still wrote to a segment would have kept it from being removed.
        stale = remove_stale_segments(self._folder)
        self._open_page()
        self._check_folders()
        self.count("orphans_ended", orphans)
        self.count("stale_segments_removed", len(stale))
        self._write_shared()

    def _check_folders(self) -> None:
        """Warn of folders that the configuration names and that let other users at the files in them."""
        journal = Path(os.path.realpath(self._config.journal_path)).parent
        folders = {journal: "journal", self._config.log_path: "logs", self._config.recorder.path: "recordings"}
        for folder, held in folders.items():
            with contextlib.suppress(FileNotFoundError):  # it is made later, with mode 0700
                if fault := host.find_folder_fault(folder):
                    self._log.warning("other users may reach a folder of ours", holds=held, fault=fault)

    def check(self, now_s: float) -> str:
        """Look after the files, five times a second at most. The launcher's own are written again here.

        Returns:
            What all processes must end for before `rebuild`, which is due now: the folder or the symbol directory was
            lost. Empty = nothing.
        """
        if now_s < self._next_check_s:
            return ""
        self._next_check_s = now_s + _CHECK_EVERY_S
        try:
            if lost := self._find_loss():
                return lost
            self._restore_own()
            self._set_trouble("")
        except (OSError, GatewayError, SegmentError) as error:
            self._set_trouble(str(error))
        return ""

    def rebuild(self) -> bool:
        """Rebuild the folder and its files, when no child runs; returns whether that was possible. Raises nothing for
        what is wrong with the folder: call it again until it can be rebuilt.
        """
        try:
            assert self._ownership is not None
            host.make_private_folder(self._folder)
            self._ownership.take_again()
            # A new directory assigns new ids: old rings would show another symbol's prices under them.
            remove_stale_segments(self._folder)
            with contextlib.suppress(OSError):  # missing, or mapped on Windows, where it cannot be removed
                symbols_path(self._folder).unlink()
            self._restore_own(always=True)
            self._write_shared()
        except (OSError, GatewayError, SegmentError) as error:
            self._set_trouble(f"run folder {self._folder} cannot be rebuilt: {error}")
            return False
        self.count("folder_rebuilds")
        self._log.warning("run folder was rebuilt, the processes are restarted", run_folder=str(self._folder))
        self._set_trouble("")
        return True

    def save_children(self, children: Mapping[str, ProcessId]) -> None:
        """Write the running children for the next launcher. Raises OSError: the disk refuses."""
        assert self._ownership is not None
        self._children = dict(children)
        self._note(STATE_FILE, self._ownership.save_children(children))

    def count(self, name: str, amount: int = 1) -> None:
        """Add to one of the launcher's counters, if its page is open, as it is not while the disk refuses it."""
        if name in self._counters:
            self._counters[name].add(amount)

    def beat(self, running: int, failed: int) -> None:
        """Write the launcher's heartbeat and how many children run and have failed."""
        if self._page is not None:
            self._counters["children_running"].set(running)
            self._counters["children_failed"].set(failed)
            self._page.beat()

    def close_page(self) -> None:
        """Mark the launcher's page as closed."""
        if self._page is not None:
            self._page.close()
            self._page = None
            self._counters = {}

    def release(self) -> None:
        """Release the folder after a clean stop; a second call does nothing."""
        if self._ownership is not None:
            self._ownership.release()
            self._ownership = None

    @property
    def is_open(self) -> bool:
        """Whether the folder was taken and not yet released."""
        return self._ownership is not None

    @property
    def is_taken(self) -> bool:
        """Whether another launcher holds the folder since our lock file was removed: this one has to go."""
        return self._ownership is not None and self._ownership.is_taken

    def _find_loss(self) -> str:
        """What was lost and needs new processes. Raises OSError when that cannot be seen, as for want of rights."""
        path = self._folder
        try:
            if self._folder_status is None or not os.path.samestat(os.lstat(path), self._folder_status):
                return f"{path} was replaced"
            path = symbols_path(self._folder)
            with os.fdopen(host.open_regular(path), "rb") as file:
                found = os.fstat(file.fileno())
                header = file.read(HEADER.size_bytes)
        except (FileNotFoundError, NotADirectoryError, host.NotRegularError):
            return f"{path} was removed"
        known = self._directory_status
        if known is None or not os.path.samestat(found, known):
            return f"{path} was replaced by another file"
        if found.st_size < known.st_size:
            return f"{path} was cut to {found.st_size} of {known.st_size} bytes"
        is_sound = header.startswith(SYMBOLS.magic + SYMBOLS.version.to_bytes(8, "little"))
        if is_sound and found.st_mtime_ns != self._directory_mtime_ns:
            # Perhaps a roll. Read only after a change: it may hold thousands of names.
            is_sound = self._read_ids() == self._ids
            # As it was before the comparison: a change meanwhile is compared at the next check.
            self._directory_mtime_ns = found.st_mtime_ns
        return "" if is_sound else f"{path} was overwritten"

    def _restore_own(self, *, always: bool = False) -> None:
        """Write again what was lost of the launcher's own files. `always`: all of them, in a folder that is rebuilt,
        which is reported as a whole.
        """
        assert self._ownership is not None
        restored = []
        try:
            # The page first, which counts the others.
            if always or self._page is None or self._page.segment.damage():
                self.close_page()
                restored.append(self._open_page())
            if self._ownership.take_again():
                restored.append(self._ownership.path)
            for path, signature in list(self._written.items()):
                if always or _signature(path) != signature:
                    if path.name == LAUNCH_FILE:
                        self._write_launch()
                    else:
                        self.save_children(self._children)
                    restored.append(path)
        finally:
            for path in () if always else restored:
                self.count("files_restored")
                self._log.warning("a file was removed or damaged, it was written again", file=str(path))

    def _open_page(self) -> Path:
        self._page = CountersPage.create(self._folder, LAUNCHER_NAME, COUNTERS)
        # Looked up now, and never on a page whose names may be overwritten.
        self._counters = {name: self._page.counter(name) for name in COUNTERS}
        self._counters["children_configured"].set(len(self._launch.processes))
        return self._page.segment.path

    def _write_shared(self) -> None:
        self._folder_status = os.lstat(self._folder)
        self._ids = enter_symbols(self._folder, self._config)
        self._directory_status = os.stat(symbols_path(self._folder))
        self._directory_mtime_ns = 0  # the first check compares the names
        # Before the first child: each reads its entry and arguments from this file.
        self._write_launch()

    def _read_ids(self) -> list[int | None]:
        """Ids of the configured symbols by their names in the directory."""
        directory = SymbolDirectory.attach(self._folder)
        return [directory.id_of(symbol.name) for symbol in self._config.symbols]

    def _write_launch(self) -> None:
        self._note(LAUNCH_FILE, self._launch.write(self._folder))

    def _note(self, name: str, written: os.stat_result) -> None:
        # Of the file as it was written: one that was damaged right after it is seen at the next check.
        self._written[self._folder / name] = _signature_of(written)

    def _set_trouble(self, text: str) -> None:
        if text and text != self._trouble:
            self._log.error("run folder cannot be used, trying again", reason=text)
        self._trouble = text


def _signature(path: Path) -> tuple[int, int, int]:
    """Changes when a file is removed, replaced, cut or overwritten."""
    with contextlib.suppress(OSError):
        return _signature_of(os.stat(path))
    return 0, 0, 0


def _signature_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
