"""One archive: a ZIP file with the rows of consecutive events, and a manifest.

manifest.json       `Manifest`: what the file holds, and the hash chain before and after it
<table>.msgpack     the rows of one table in the order of writing; each row is its length (4 bytes, little endian) and
                    that many bytes of MessagePack, an array of the values in the order of the manifest's columns

An archive is written once and never changed. Each member is read as a stream: the rows of one table are read without
those of the others, and without holding them in memory.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from ....shm import host
from ..schema import JournalError, schema_version
from ..store import chain_hash
from .tables import Row, archived_tables, columns_of, read_in_windows

FORMAT: Final = 1
SUFFIX: Final = ".zip"
_MANIFEST: Final = "manifest.json"
_DIGEST_BYTES: Final = 16
_ROOM_EACH_BYTES: Final = 4 << 20
_DAMAGE: Final = (
    *(OSError, EOFError, KeyError, ValueError, RuntimeError, OverflowError),
    *(struct.error, zlib.error, zipfile.BadZipFile, msgspec.MsgspecError),
)
"""What reading a damaged ZIP file raises, depending on the byte that is wrong."""
_encoder = msgspec.msgpack.Encoder()
_row_decoder: msgspec.msgpack.Decoder[Row] = msgspec.msgpack.Decoder(tuple)


class MissingArchiveError(JournalError):
    """An archive that the journal names is not beside it."""


class Member(Struct, frozen=True):
    """One table of an archive. `digest`: BLAKE2b of the member's uncompressed bytes, hex."""

    columns: list[str]
    rows: int
    digest: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What an archive holds. `chain_before`, `chain_after`: the journal's running hash (hex) before its first event and
    after its last one. Times: of the first and last event, UTC ns.
    """

    format: int
    schema_version: int
    first_seq: int
    last_seq: int
    first_at_ns: int
    last_at_ns: int
    chain_before: str
    chain_after: str
    tables: dict[str, Member]


class ArchiveEntry(Struct, frozen=True, kw_only=True):
    """An archive as the journal remembers it. `digest`: BLAKE2b of the whole file, hex."""

    name: str
    first_seq: int
    last_seq: int
    chain_before: str
    chain_after: str
    digest: str


class Archive:
    """Reads one archive file. Used by one thread; close it, or use it as a context."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its manifest.

        Raises: JournalError when it is missing, damaged, or of another format.
        """
        self.path = path
        try:
            self._bundle = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise MissingArchiveError(f"archive {path} is missing; bring it back from a backup") from error
        except _DAMAGE as error:
            raise JournalError(f"archive {path} cannot be read: {error}; {_CURE}") from error
        try:
            self.manifest = msgspec.json.decode(self._bundle.read(_MANIFEST), type=Manifest)
        except _DAMAGE as error:
            self._bundle.close()
            raise JournalError(f"archive {path} has no readable manifest: {error}; {_CURE}") from error
        if self.manifest.format != FORMAT:
            self._bundle.close()
            raise JournalError(
                f"archive {path} has format {self.manifest.format}, must be {FORMAT}; update the program"
            )

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._bundle.close()

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table in the order of writing; none when the archive is older than the table.

        Raises: JournalError when they cannot be read, or are not as they were written.
        """
        member = self.manifest.tables.get(table)
        if member is None:
            return
        digest, count = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
        try:
            with self._bundle.open(_member_name(table)) as file:
                while head := file.read(4):
                    body = _read_exactly(file, int.from_bytes(head, "little"))
                    digest.update(head)
                    digest.update(body)
                    count += 1
                    yield _row_decoder.decode(body)
        except _DAMAGE as error:
            raise JournalError(f"archive {self.path}: {table} cannot be read: {error}; {_CURE}") from error
        if (digest.hexdigest(), count) != (member.digest, member.rows):
            raise JournalError(f"archive {self.path}: {table} are not as they were written; {_CURE}")

    def check(self) -> dict[str, int]:
        """Read everything and compare it with the manifest and the hash chain. Returns table -> rows.

        Raises: JournalError naming what differs.
        """
        manifest = self.manifest
        chain, expected = bytes.fromhex(manifest.chain_before), manifest.first_seq
        for row in self.rows("events"):
            fields = dict(zip(manifest.tables["events"].columns, row, strict=True))
            if fields["seq"] != expected:
                raise JournalError(f"archive {self.path}: event {expected} is missing; {_CURE}")
            chain = chain_hash(chain, fields["at_ns"], fields["payload"])
            if chain != fields["chain"]:
                raise JournalError(f"archive {self.path}: event {expected} was altered; {_CURE}")
            expected += 1
        if (expected - 1, chain.hex()) != (manifest.last_seq, manifest.chain_after):
            raise JournalError(f"archive {self.path} does not end with event {manifest.last_seq}; {_CURE}")
        counts = {"events": expected - manifest.first_seq}
        for table in manifest.tables.keys() - {"events"}:
            counts[table] = sum(1 for _ in self.rows(table))
        return counts

    def entry(self) -> ArchiveEntry:
        """Return what the journal remembers of this file. Reads all of it for the digest."""
        manifest = self.manifest
        return ArchiveEntry(
            name=self.path.name,
            first_seq=manifest.first_seq,
            last_seq=manifest.last_seq,
            chain_before=manifest.chain_before,
            chain_after=manifest.chain_after,
            digest=file_digest(self.path),
        )


def write_archive(
    connection: sqlite3.Connection,
    folder: Path,
    first_seq: int,
    last_seq: int,
    chain_before: bytes,
    max_bytes: int,
    check_room: Callable[[], None] = lambda: None,
) -> ArchiveEntry:
    """Write the rows of events from `first_seq` on, to `last_seq` or until `max_bytes` of rows, into a new file.

    The file gets its name only after it is on the disk and was read back in full. `check_room` is called before it and
    after each 4 MiB of rows; the JournalError that it raises ends the writing, and the file goes.

    Raises: JournalError when the journal's own rows are damaged, or the disk takes no more.
    """
    part = folder / f"{first_seq:012d}.{os.getpid()}.part"
    try:
        part.unlink(missing_ok=True)
        check_room()
        with os.fdopen(host.open_private(part, create=True, exclusive=True), "wb") as raw:
            manifest = _write_members(connection, raw, first_seq, last_seq, chain_before, max_bytes, check_room)
            raw.flush()
            os.fsync(raw.fileno())
        with Archive(part) as written:
            written.check()
        target = folder / f"{first_seq:012d}-{manifest.last_seq:012d}{SUFFIX}"
        os.replace(part, target)
        sync_folder(folder)
    except (OSError, JournalError, sqlite3.Error) as error:
        part.unlink(missing_ok=True)
        raise JournalError(f"no archive of events {first_seq} to {last_seq}: {error}") from error
    with Archive(target) as archive:
        return archive.entry()


def file_digest(path: Path) -> str:
    """Return the BLAKE2b digest of a whole file, hex."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_members(
    connection: sqlite3.Connection,
    raw: IO[bytes],
    first_seq: int,
    last_seq: int,
    chain_before: bytes,
    max_bytes: int,
    check_room: Callable[[], None],
) -> Manifest:
    members: dict[str, Member] = {}
    columns = columns_of(connection, "events")
    seq_at, time_at, chain_at = (columns.index(name) for name in ("seq", "at_ns", "chain"))
    first: Row = ()
    last: Row = ()
    unchecked = 0
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as bundle:
        for table in archived_tables(connection):  # events first: they decide where this archive ends
            digest, count, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0, 0
            with bundle.open(_member_name(table), "w", force_zip64=True) as file:
                for row in read_in_windows(connection, table, first_seq, last_seq):
                    body = _encoder.encode(row)
                    framed = len(body).to_bytes(4, "little") + body
                    digest.update(framed)
                    file.write(framed)
                    count += 1
                    size += len(framed)
                    unchecked += len(framed)
                    if unchecked >= _ROOM_EACH_BYTES:
                        check_room()
                        unchecked = 0
                    if table == "events":
                        first, last = first or row, row
                        if size >= max_bytes:
                            break
            if table == "events":
                if not first or first[seq_at] != first_seq:
                    raise JournalError(
                        f"event {first_seq} of the journal is missing; run `nexus-gateway journal verify`"
                    )
                last_seq = last[seq_at]
            members[table] = Member(columns_of(connection, table), count, digest.hexdigest())
        manifest = Manifest(
            format=FORMAT,
            schema_version=schema_version(connection),
            first_seq=first_seq,
            last_seq=last_seq,
            first_at_ns=first[time_at],
            last_at_ns=last[time_at],
            chain_before=chain_before.hex(),
            chain_after=last[chain_at].hex(),
            tables=members,
        )
        bundle.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def _member_name(table: str) -> str:
    return f"{table}.msgpack"


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    body = file.read(size)
    if len(body) != size:
        raise EOFError(f"{size} bytes announced, {len(body)} there")
    return body


def sync_folder(folder: Path) -> None:
    """Make the new name durable. Windows has no such call, and writes its directory entries by itself."""
    if host.IS_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_CURE: Final = "bring the file back from a backup"
