"""Recordings of real market data as streams of tick arrays.

`open_recording(path)` -> `Recording`; `Recording.chunks(...)` decodes; `merge_by_time` makes several streams one;
`carry_forward` fills what a tick does not carry. Which formats, and what each one means: docs/recordings.md.
"""

from .carry import carry_forward, make_carry_state
from .catalog import detect_format, open_recording
from .merge import merge_by_time
from .oddities import Oddities
from .recording import CHUNK_TICKS, Format, Instrument, ReadOptions, Recording

__all__ = [
    "CHUNK_TICKS",
    "Format",
    "Instrument",
    "Oddities",
    "ReadOptions",
    "Recording",
    "carry_forward",
    "detect_format",
    "make_carry_state",
    "merge_by_time",
    "open_recording",
]
