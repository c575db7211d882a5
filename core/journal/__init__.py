"""The journal: what happened, on disk before anything leaves. SQLite in WAL mode, one file, one writer."""

from __future__ import annotations

from .archive import Verdict as Verdict, backup as backup, export as export, restore as restore, verify as verify
from .recovery import Rebuilt as Rebuilt, rebuild as rebuild
from .schema import SCHEMA_VERSION as SCHEMA_VERSION, JournalError as JournalError
from .store import Durability as Durability, Journal as Journal
