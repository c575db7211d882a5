"""The journal: every event and every order to be sent, on disk before it leaves. SQLite in WAL mode, one writer."""

from __future__ import annotations

from .archive import backup as backup, export as export, restore as restore
from .files import JournalLostError as JournalLostError, Loss as Loss, lock_path as lock_path
from .recovery import Rebuilt as Rebuilt, ReplayObserver as ReplayObserver, rebuild as rebuild
from .schema import SCHEMA_VERSION as SCHEMA_VERSION, JournalError as JournalError
from .store import Durability as Durability, Journal as Journal
from .verification import Verdict as Verdict, verify as verify
