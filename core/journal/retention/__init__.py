"""Archives of the journal: old events leave the journal for compressed files beside it, and stay readable in order."""

from __future__ import annotations

from .archive_file import Archive as Archive, ArchiveEntry as ArchiveEntry
from .archiving import archive_due as archive_due, has_written as has_written, last_due_seq as last_due_seq
from .history import (
    archive_folder as archive_folder,
    archives_of as archives_of,
    first_seq as first_seq,
    read_rows as read_rows,
)
from .removal import confirm_archive as confirm_archive, remove_all as remove_all, remove_step as remove_step
