"""Replay of the gateway's own recordings: complete ticks with symbol ids, one stream for each ring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from ...core.errors import DataFormatError
from ...shm.recording.file import TICKS_SUFFIX
from ...shm.recording.reader import Position, RecordedFile, RecordedRing, RecordingError, open_recorded
from ...shm.tick import TickArray
from ..formats.merge import merge_by_time
from ..formats.oddities import Audit, Oddities
from ..formats.recording import Instrument

_CHUNK_TICKS: Final = 16_384
_SYMBOL_IDS: Final = 1 << 16


def is_own_recording(path: Path) -> bool:
    """Whether `path` is a recording folder, a ring's folder in it, or one of its data files."""
    return path.is_dir() or path.suffix == TICKS_SUFFIX


class OwnRecording:
    """Has the interface of `formats.recording.Recording`; its ticks are complete, so that nothing is carried forward.

    Attributes:
        instruments: one for each universal symbol name, whatever contracts it had.
        format, clock: as for other recordings, for logs.
    """

    format: Final = "own"
    clock: Final = "UTC, as recorded"

    def __init__(self, path: Path) -> None:
        """Raises DataFormatError when there is no recording, or it is of another version."""
        self.path = path
        try:
            self._rings = list(open_recorded(path).rings.values())
            names = {name for ring in self._rings for file in ring.files for name in file.symbols.names().values()}
        except RecordingError as error:
            raise DataFormatError(str(error)) from None
        self.instruments = tuple(Instrument(name, name) for name in sorted(names))

    def chunks(
        self,
        symbol_ids: Mapping[str, int],
        source: int,
        start_ns: int | None = None,
        oddities: Oddities | None = None,
    ) -> Iterator[TickArray]:
        """Yield the recorded ticks of all rings by time of publication, with `symbol` translated to today's ids.

        Args:
            symbol_ids: id for each universal name.
            source: not used: each tick keeps the platform that it came from.
            start_ns: begin at the first tick published at this UTC time or later.

        Raises:
            DataFormatError: a tick has an id that the recording does not explain.
        """
        counted = Oddities() if oddities is None else oddities
        return merge_by_time([self._stream(ring, symbol_ids, start_ns, counted) for ring in self._rings])

    def _stream(
        self, ring: RecordedRing, symbol_ids: Mapping[str, int], start_ns: int | None, oddities: Oddities
    ) -> Iterator[TickArray]:
        audit = Audit(oddities)
        start = Position(0, 0) if start_ns is None else ring.seek_time(start_ns)
        for file, ticks in ring.arrays(start):
            translation = _translate(file, symbol_ids)
            for begin in range(0, len(ticks), _CHUNK_TICKS):
                chunk = ticks[begin : begin + _CHUNK_TICKS].copy()
                symbols = translation[chunk["symbol"]]
                if not symbols.all():
                    unknown = int(chunk["symbol"][symbols == 0][0])
                    raise DataFormatError(f"{file.path}: a tick has symbol id {unknown}, which its symbol table lacks")
                chunk["symbol"] = symbols
                audit.add(chunk)
                yield chunk


def _translate(file: RecordedFile, symbol_ids: Mapping[str, int]) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Table from the file's ids to today's; 0 = not known."""
    table = np.zeros(_SYMBOL_IDS, np.uint16)
    for recorded_id, name in file.symbols.names().items():
        table[recorded_id] = symbol_ids[name]
    return table
