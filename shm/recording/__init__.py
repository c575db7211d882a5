"""Recorded ticks on disk: file layout, writer, reader, the symbols that a file names."""

from .reader import open_recorded as open_recorded
