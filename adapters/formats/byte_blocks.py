"""Read files and archive members as byte blocks, in bounded memory; damage is reported with its position."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...core.errors import DataFormatError
from .oddities import Oddities

BLOCK_BYTES: Final = 1 << 18
_FIRST_LINE_BYTES: Final = 200
_COMPRESSED_BYTES: Final = 1 << 16
_MEMBER_BYTES: Final = 1 << 16  # zipfile drops the read in which it finds damage: little is lost
# What zipfile raises over a changed byte: a wrong offset is an OSError, a wrong method a NotImplementedError, a wrong
# flag "encrypted", a RuntimeError; a name that is no text a ValueError.
_ZIP_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LZMA_MEMORY_BYTES: Final = 1 << 26  # a damaged header may ask for 4 GB; the vendor's files need 4 MB
_GZIP_WINDOW: Final = 31  # zlib's largest window with gzip framing: header and checksum are verified


def read_blocks(path: Path) -> Iterator[bytes]:
    """Yield a plain or gzip file (detected by its first bytes) in blocks of at most BLOCK_BYTES.

    Raises:
        DataFormatError: truncated or damaged gzip, with the position in the compressed file; everything that could
            be decompressed before it has been yielded.
    """
    with path.open("rb") as file:
        magic = file.read(len(_GZIP_MAGIC))
        file.seek(0)
        if magic == _GZIP_MAGIC:
            yield from _inflate(path, iter(lambda: file.read(_COMPRESSED_BYTES), b""))
        else:
            yield from iter(lambda: file.read(BLOCK_BYTES), b"")


def _inflate(path: Path, compressed: Iterator[bytes]) -> Iterator[bytes]:
    position = 0
    member = zlib.decompressobj(_GZIP_WINDOW)
    for block in compressed:
        position += len(block)
        full = False  # a full output may leave some behind that needs no further input
        while block or (full and not member.eof):
            if member.eof:  # several gzip members in one file are one text, as gzip itself has it
                member = zlib.decompressobj(_GZIP_WINDOW)
            try:
                content = member.decompress(block, BLOCK_BYTES)
            except zlib.error as error:
                raise DataFormatError(f"{path}: gzip data damaged before byte {position}: {error}") from error
            full = len(content) == BLOCK_BYTES
            block = member.unused_data if member.eof else member.unconsumed_tail
            if content:
                yield content
    if not member.eof:
        raise DataFormatError(f"{path}: gzip file ends at byte {position}, before its end mark: it was cut")


def read_lzma_blocks(path: Path) -> Iterator[bytes]:
    """Yield an LZMA file in blocks of at most BLOCK_BYTES; nothing for an empty file.

    Raises:
        DataFormatError: truncated, damaged, or followed by other data, with the position in the compressed file.
    """
    position = 0
    stream = lzma.LZMADecompressor(lzma.FORMAT_ALONE, _LZMA_MEMORY_BYTES)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_COMPRESSED_BYTES), b""):
            position += len(block)
            while block or not (stream.needs_input or stream.eof):
                try:
                    content = stream.decompress(block, BLOCK_BYTES)
                except lzma.LZMAError as error:
                    raise DataFormatError(f"{path}: LZMA data damaged before byte {position}: {error}") from error
                block = b""
                if content:
                    yield content
            if stream.unused_data or (stream.eof and file.read(1)):
                raise DataFormatError(f"{path}: LZMA data ends before byte {position}, but the file goes on")
    if position and not stream.eof:
        raise DataFormatError(f"{path}: LZMA file ends at byte {position}, before its end mark: it was cut")


def list_members(path: Path) -> list[str]:
    """List a zip archive's files, in its order. Raises DataFormatError if it is not a complete zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [each.filename for each in archive.infolist() if not each.is_dir()]
    except _ZIP_DAMAGE as error:
        size = path.stat().st_size
        raise DataFormatError(
            f"{path}: no readable zip archive ({error}); its directory stands at its end, byte {size}: it was cut"
        ) from error


def read_member_blocks(path: Path, member: str) -> Iterator[bytes]:
    """Yield one file of a zip archive in blocks; its checksum is verified at the end.

    Raises:
        DataFormatError: damaged archive or member, with the position in the decompressed text.
    """
    position = 0
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            while content := file.read(_MEMBER_BYTES):
                position += len(content)
                yield content
    except _ZIP_DAMAGE as error:
        raise DataFormatError(f"{path}!{member}: damaged after byte {position} of its text: {error}") from error


def split_whole_lines(name: str, blocks: Iterator[bytes], oddities: Oddities) -> Iterator[bytes]:
    """Regroup blocks of text so that each ends with a line end; a missing last one is counted and added.

    Raises:
        DataFormatError: a line longer than a block.
    """
    rest = b""
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
            if len(rest) > BLOCK_BYTES:
                raise DataFormatError(f"{name}: no line end in {len(rest)} bytes: this is no text of lines")
    if rest:
        oddities.unended_lines += 1
        yield rest + b"\n"


def read_first_line(path: Path) -> str:
    """Return the first line of a plain or gzip text without its line end, at most 200 bytes; "" if there is none."""
    for block in read_blocks(path):
        line = block.split(b"\n", 1)[0][:_FIRST_LINE_BYTES]
        return line.decode("utf-8", "backslashreplace").removeprefix("\ufeff").rstrip("\r")
    return ""
