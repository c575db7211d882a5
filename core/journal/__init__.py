"""The journal: every event and every order to be sent, on disk before it leaves. SQLite in WAL mode, one writer."""

from __future__ import annotations

from .copies import (
    backup as backup,
    copy_database as copy_database,
    export as export,
    kept_journal as kept_journal,
    restore as restore,
)
from .files import (
    RESCUED as RESCUED,
    JournalLostError as JournalLostError,
    Loss as Loss,
    lock_path as lock_path,
    real_journal_path as real_journal_path,
)
from .lost_events import LostEvents as LostEvents, find_lost_events as find_lost_events
from .packed_state import LARGE_BYTES as LARGE_BYTES, pack_state as pack_state
from .recovery import Rebuilt as Rebuilt, ReplayObserver as ReplayObserver, rebuild as rebuild
from .room import JournalRoom as JournalRoom
from .saved_copies import check_saved_copies as check_saved_copies
from .schema import SCHEMA_VERSION as SCHEMA_VERSION, JournalError as JournalError
from .store import Durability as Durability, Journal as Journal, JournalBusyError as JournalBusyError
from .verification import Verdict as Verdict, verify as verify
