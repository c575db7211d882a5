"""config/symbol_mappings.json as typed data, checked whole, with the difference between two versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError
from .catalog import Catalog
from .data_file import read_text

PLATFORMS = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")


class FormEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template of contract names (see symbol_form) and the exchanges whose roots have such names."""

    name: str
    exchanges: list[str]


class InstrumentNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An undated instrument's name at the user's broker, and the other names read as the same."""

    name: str
    aliases: list[str] = []


class PlatformMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names at one platform.

    forms: by connection or feed. default: the form that is written; None: contracts are only read.
    stands_for: futures root -> undated instrument traded in its place here. suffixes: endings that brokers
    add to undated names, read but never written. not_tradable: pattern with * and ? -> why such a name is refused.
    """

    forms: dict[str, FormEntry]
    default: str | None = None
    stands_for: dict[str, str] = {}
    instruments: dict[str, InstrumentNames] = {}
    suffixes: list[str] = []
    not_tradable: dict[str, str] = {}


class SymbolMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. roots and exchanges are the tables that forms name; foreign_forms are only read."""

    version: int
    platforms: dict[str, PlatformMapping]
    roots: dict[str, dict[str, str]] = {}
    exchanges: dict[str, dict[str, str]] = {}
    foreign_forms: dict[str, FormEntry] = {}
    not_tradable: dict[str, str] = {}


class MappingChange(msgspec.Struct, frozen=True):
    """One difference between two versions; `path` is dotted, a missing side is None."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.before)} -> {_shown(self.after)}"


def read_mapping(path: Path) -> SymbolMapping:
    """Return the mapping file, typed. Raises ConfigError naming the file; doubled keys are errors."""
    text = read_text(path)
    try:
        raw = json.loads(text, object_pairs_hook=_refuse_doubled_keys)
        mapping = msgspec.convert(raw, SymbolMapping)
    except (ValueError, ConfigError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if mapping.version != 1:
        raise ConfigError(f"{path}: version was {mapping.version}; this gateway reads version 1")
    return mapping


def check_references(mapping: SymbolMapping, catalog: Catalog) -> None:
    """Check that every root, instrument, exchange and platform named exists. Raises ConfigError."""
    exchanges = {instrument.exchange for instrument in catalog.values()}
    for platform, entry in mapping.platforms.items():
        if platform not in PLATFORMS:
            raise ConfigError(f"platform was {platform!r}; use one of {', '.join(PLATFORMS)}")
        where = f"platforms.{platform}"
        if entry.default is not None and entry.default not in entry.forms:
            raise ConfigError(f"{where}.default was {entry.default!r}; use one of {', '.join(entry.forms)}")
        for root, symbol in entry.stands_for.items():
            _require_future(catalog, root, f"{where}.stands_for")
            if symbol not in entry.instruments:
                raise ConfigError(f"{where}.stands_for.{root} was {symbol!r}; add it to {where}.instruments")
        for symbol, names in entry.instruments.items():
            if symbol not in catalog or catalog[symbol].future is not None:
                raise ConfigError(f"{where}.instruments.{symbol} is not a CFD or pair of the catalog; add it there")
            if not all((names.name, *names.aliases)):
                raise ConfigError(f"{where}.instruments.{symbol} has an empty name; write it, or remove it")
        _check_exchanges(entry.forms, exchanges, where)
    _check_exchanges(mapping.foreign_forms, exchanges, "foreign_forms")
    for table, roots in mapping.roots.items():
        for root in roots:
            _require_future(catalog, root, f"roots.{table}")


def compare_mappings(before: SymbolMapping, after: SymbolMapping) -> tuple[MappingChange, ...]:
    """Return what differs, ordered by path, for the log."""
    old, new = _flattened(before), _flattened(after)
    return tuple(
        MappingChange(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def _require_future(catalog: Catalog, root: str, where: str) -> None:
    if root not in catalog or catalog[root].future is None:
        raise ConfigError(f"{where}: {root!r} is not a futures root of the catalog; correct it or add it there")


def _check_exchanges(forms: dict[str, FormEntry], known: set[str], where: str) -> None:
    for name, form in forms.items():
        unknown = set(form.exchanges) - known
        if unknown:
            raise ConfigError(
                f"{where}.{name}: exchange {min(unknown)!r} is not in the catalog; use {', '.join(sorted(known))}"
            )


def _refuse_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"key {key!r} appears twice in one object; keep one of them")
        found[key] = value
    return found


def _flattened(mapping: SymbolMapping) -> dict[str, str]:
    flat: dict[str, str] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                walk(f"{path}.{key}" if path else key, each)
        else:
            flat[path] = ", ".join(value) if isinstance(value, list) else str(value)

    walk("", msgspec.to_builtins(mapping))
    return flat


def _shown(value: str | None) -> str:
    return "(absent)" if value is None else repr(value)
