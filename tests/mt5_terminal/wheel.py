"""What the real wheel says about itself: constants of its source, tables of methods and structures in its binary.

The binary is read, never loaded: it is a Windows DLL.
"""

from __future__ import annotations

import ast
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METH_VARARGS, METH_KEYWORDS, METH_NOARGS = 1, 2, 4


@dataclass(frozen=True)
class Wheel:
    """`constants`: name -> value. `methods`: name -> flags of its calling convention. `structs`: name -> fields.

    `helpers`: functions written in Python, name -> parameters. `binary`: the compiled module's file.
    """

    version: str
    constants: dict[str, int]
    helpers: dict[str, list[str]]
    methods: dict[str, int]
    structs: dict[str, list[str]]
    binary: bytes = field(repr=False)


def read_wheel(path: Path) -> Wheel:
    """Read it. Raises ValueError when it is built otherwise than known."""
    with zipfile.ZipFile(path) as archive:
        source = ast.parse(archive.read("MetaTrader5/__init__.py"))
        (name,) = (each for each in archive.namelist() if each.endswith(".pyd"))
        binary = archive.read(name)
    constants: dict[str, Any] = {}
    helpers: dict[str, list[str]] = {}
    for node in source.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = _evaluate(node.value)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            helpers[node.name] = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
    version = str(constants.pop("__version__"))
    constants.pop("__author__")
    image = _Image(binary)
    return Wheel(version, constants, helpers, image.methods(), image.structs(), binary)


def _evaluate(node: ast.expr) -> Any:
    """A literal, or literals joined by |."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _evaluate(node.left) | _evaluate(node.right)
    return ast.literal_eval(node)


class _Image:
    """A 64-bit PE file with the tables that CPython's C API wants: pointers to names, functions, documentation."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        header = struct.unpack_from("<I", data, 0x3C)[0]
        count, optional_bytes = (struct.unpack_from("<H", data, header + place)[0] for place in (6, 20))
        (self._base,) = struct.unpack_from("<Q", data, header + 24 + 24)
        first = header + 24 + optional_bytes
        self._sections = []
        for place in range(first, first + 40 * count, 40):
            name = data[place : place + 8].rstrip(b"\0")
            _, address, size, offset = struct.unpack_from("<4I", data, place + 8)
            self._sections.append((name, self._base + address, size, offset))

    def methods(self) -> dict[str, int]:
        """PyMethodDef: name, function, flags, documentation; those of the module, without `_asdict`."""
        found = {}
        for name, function, flags, _ in self._rows():
            if self._section(function) == b".text" and 0 < flags & 0xFFFF_FFFF < 64:
                found[self._text(name)] = flags & 0xFFFF_FFFF
        found.pop("_asdict")
        return found

    def structs(self) -> dict[str, list[str]]:
        """PyStructSequence_Desc: name, documentation, fields, count; a field: name, documentation."""
        found = {}
        for name, doc, fields, count in self._rows():
            if not (0 < count & 0xFFFF_FFFF < 200 and self._text(doc) and self._section(fields) == b".data"):
                continue
            # The tables are filled in by the linker or at load time; either way the pointers are in the file.
            names = [self._text(self._word(fields + 16 * place)) for place in range(count & 0xFFFF_FFFF)]
            if all(names) and self._word(fields + 16 * len(names)) == 0:
                found[self._text(name)] = names
        return found

    def _rows(self) -> list[tuple[int, int, int, int]]:
        """Every four words of the data sections whose first points to a text."""
        rows = []
        for name, address, size, _ in self._sections:
            if name not in (b".data", b".rdata"):
                continue
            for place in range(address, address + size - 32, 8):
                row = tuple(self._word(place + 8 * each) for each in range(4))
                if self._text(row[0]):
                    rows.append(row)
        return rows

    def _offset(self, address: int) -> int | None:
        for _, start, size, offset in self._sections:
            if start <= address < start + size:
                return int(offset + address - start)
        return None

    def _section(self, address: int) -> bytes:
        return next((name for name, start, size, _ in self._sections if start <= address < start + size), b"")

    def _word(self, address: int) -> int:
        offset = self._offset(address)
        return 0 if offset is None else int(struct.unpack_from("<Q", self._data, offset)[0])

    def _text(self, address: int) -> str:
        """The C string at this address, empty when there is none."""
        offset = self._offset(address)
        if offset is None:
            return ""
        text = self._data[offset : self._data.find(b"\0", offset)]
        return text.decode("ascii") if text and all(31 < byte < 127 for byte in text) else ""
