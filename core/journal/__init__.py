"""The journal: what happened, on disk before anything leaves. SQLite in WAL mode, one file, one writer."""

from __future__ import annotations

from .archive import Verdict, backup, export, restore, verify
from .recovery import Rebuilt, rebuild
from .schema import SCHEMA_VERSION, JournalError
from .store import Durability, Journal

__all__ = [
    "SCHEMA_VERSION",
    "Durability",
    "Journal",
    "JournalError",
    "Rebuilt",
    "Verdict",
    "backup",
    "export",
    "rebuild",
    "restore",
    "verify",
]
