"""Conversion between universal and platform names, both ways, with the reason for each result.

A name that could mean two things is refused with both named, never guessed: an order on the wrong month
cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from ..errors import ConfigError
from .catalog import Catalog
from .contract_code import Contract
from .refusals import (
    SYMBOL_AMBIGUOUS,
    SYMBOL_NOT_OFFERED,
    SYMBOL_NOT_TRADABLE,
    SYMBOL_UNKNOWN,
    InstrumentRefused,
    SymbolRefused,
)
from .symbol_form import FormTables, SymbolForm, read_all
from .symbol_mapping import (
    FormEntry,
    MappingChange,
    PlatformMapping,
    SymbolMapping,
    check_references,
    compare_mappings,
    read_mapping,
)

SHIPPED_MAPPING = Path(__file__).parent / "symbol_mappings.json"
"""The mapping that is used where the configuration folder has none."""


class PlatformSymbol(msgspec.Struct, frozen=True):
    """Meaning of one platform name. `contract` is None for a CFD or pair; `why` is one sentence."""

    platform: str
    name: str
    instrument: str
    contract: Contract | None
    why: str


class _Platform:
    """The compiled names of one platform."""

    def __init__(self, name: str, mapping: PlatformMapping, catalog: Catalog, tables: FormTables) -> None:
        where = f"platforms.{name}"
        self.mapping = mapping
        self.forms = _compile_forms(mapping.forms, catalog, tables, where)
        self.instruments_by_name: dict[str, str] = {}
        for symbol, names in mapping.instruments.items():
            for each in (names.name, *names.aliases):
                taken = self.instruments_by_name.setdefault(each, symbol)
                if taken != symbol:
                    raise ConfigError(f"{where}: the name {each!r} is given to both {taken} and {symbol}")

    def instruments_of(self, name: str) -> dict[str, str]:
        """Return the undated instruments `name` can mean, each with the reason."""
        exact = self.instruments_by_name.get(name)
        if exact is not None:
            return {exact: f"{name!r} is listed as a name of {exact}"}
        found: dict[str, str] = {}
        for suffix in self.mapping.suffixes:
            symbol = self.instruments_by_name.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if symbol is not None:
                found[symbol] = f"{name!r} is a name of {symbol} with the broker's suffix {suffix!r}"
        return found


class SymbolBook:
    """All names of one version of the mapping file. Immutable; `SymbolFile` replaces it as a whole."""

    def __init__(self, mapping: SymbolMapping, catalog: Catalog) -> None:
        """Compile and check everything. Raises ConfigError, also when only one entry is not valid."""
        check_references(mapping, catalog)
        self.mapping = mapping
        self.catalog = catalog
        tables = FormTables(mapping.roots, mapping.exchanges)
        self._platforms = {name: _Platform(name, entry, catalog, tables) for name, entry in mapping.platforms.items()}
        self._foreign = _compile_forms(mapping.foreign_forms, catalog, tables, "foreign_forms")

    def name_of(self, platform: str, target: Contract | str, connection: str | None = None) -> PlatformSymbol:
        """Return the platform's name for a contract, or for an undated instrument's symbol.

        A root that a CFD stands for on this platform gives the CFD, which is another instrument: use the
        instrument of the answer for point value and lots. `connection` chooses a form other than the default.
        Raises SymbolRefused with the reason when the platform has no such name.
        """
        entry = self._platform(platform)
        root = target.root if isinstance(target, Contract) else target
        instrument = self.catalog.require(root)
        if connection is None:
            symbol = entry.mapping.stands_for.get(root, root)
            if symbol in entry.mapping.instruments:
                reason = f"{symbol} stands for {root} on {platform}" if symbol != root else f"{symbol} is listed"
                first = next((each for each, name in entry.mapping.stands_for.items() if name == symbol), root)
                if first != root and symbol != root:
                    reason += f"; signals trade it as {first}, which is listed first"
                return PlatformSymbol(platform, entry.mapping.instruments[symbol].name, symbol, None, reason)
        form = self._form(platform, connection)
        if form is None or not form.serves(root):
            raise SymbolRefused(
                SYMBOL_NOT_OFFERED,
                f"{platform} has no name for {root} ({instrument.exchange}); if your broker offers it, add it "
                "to the symbol mappings",
            )
        if not isinstance(target, Contract):
            raise SymbolRefused(
                SYMBOL_NOT_OFFERED, f"{root} on {platform} needs a contract month, as in {form.template}"
            )
        self.catalog.contract(target.root, target.year, target.month)
        why = f"form {form.name!r} of {platform}: {form.template}"
        return PlatformSymbol(platform, form.write(target), root, target, why)

    def parse(self, name: str, platform: str | None = None, on: date | None = None) -> PlatformSymbol:
        """Return the meaning of `name` on `platform`, or on any platform when it is None (the result's platform is "").

        `on` is the date on which the name is read; a one-digit year needs it. Raises SymbolRefused, whose
        candidates are named, for a name that is unknown, ambiguous or not tradable.
        """
        names = list(self._platforms) if platform is None else [platform]
        platforms = [self._platform(each) for each in names]
        self._refuse_not_tradable(name, platforms)
        forms = [form for each in platforms for form in each.forms.values()]
        if platform is None:
            forms += self._foreign.values()
        contracts, refusals = read_all(forms, name, self.catalog, on)
        found = {
            contract.code: PlatformSymbol(
                platform or "", name, contract.root, contract, f"form {', '.join(fitting)} reads {contract.code}"
            )
            for contract, fitting in contracts.items()
        }
        for each in platforms:
            for symbol, why in each.instruments_of(name).items():
                found[symbol] = PlatformSymbol(platform or "", name, symbol, None, why)
        if len(found) == 1 and not refusals:
            return next(iter(found.values()))
        if len(found) > 1:
            raise SymbolRefused(
                SYMBOL_AMBIGUOUS,
                f"{name!r} could be {' or '.join(sorted(found))}; name the platform, or correct the mapping",
                tuple(sorted(found)),
            )
        if refusals:
            raise refusals[0]
        raise SymbolRefused(
            SYMBOL_UNKNOWN,
            f"{name!r} is not a name of {platform or 'any platform'}; {self._expected(platform)}",
        )

    def explain(self, name: str, platform: str | None = None, on: date | None = None) -> list[str]:
        """Return lines that say what `name` means on each platform and why; refusals are lines too.

        `name` may be a universal code (NQH25), a root that a CFD stands for, or any platform's own name. For one
        platform the names by its other connections are added.
        """
        lines: list[str] = []
        try:
            meant = self.parse(name, platform, on)
            target: Contract | str = meant.contract or meant.instrument
            shown = target.code if isinstance(target, Contract) else target
            lines.append(f"{name} means {shown}: {meant.why}")
        except InstrumentRefused as refusal:
            if name not in self.catalog:
                return [f"{name} is refused ({refusal.code}): {refusal}"]
            target = name
            lines.append(f"{name} is {self.catalog[name].description} in the catalog")
        for each in [platform] if platform is not None else list(self._platforms):
            try:
                symbol = self.name_of(each, target)
                lines.append(f"{each}: {symbol.name} ({symbol.why})")
            except InstrumentRefused as refusal:
                lines.append(f"{each}: none ({refusal})")
        if platform is not None and isinstance(target, Contract):
            lines += self._other_names(platform, target)
        return lines

    def _other_names(self, platform: str, contract: Contract) -> list[str]:
        """A contract's names by the platform's other connections or feeds."""
        default = self._platform(platform).mapping.default
        return [
            f"{platform} by {form.name}: {form.write(contract)} (form {form.template})"
            for form in self._platform(platform).forms.values()
            if form.name != default and form.serves(contract.root)
        ]

    def platforms(self) -> tuple[str, ...]:
        """The platform ids of the file."""
        return tuple(self._platforms)

    def _platform(self, platform: str) -> _Platform:
        entry = self._platforms.get(platform)
        if entry is None:
            raise ConfigError(f"platform was {platform!r}; the mapping has {', '.join(self._platforms)}")
        return entry

    def _form(self, platform: str, connection: str | None) -> SymbolForm | None:
        entry = self._platform(platform)
        if connection is None:
            return entry.forms[entry.mapping.default] if entry.mapping.default is not None else None
        form = entry.forms.get(connection)
        if form is None:
            raise ConfigError(f"connection was {connection!r}; {platform} has {', '.join(entry.forms)}")
        return form

    def _refuse_not_tradable(self, name: str, platforms: list[_Platform]) -> None:
        for rules in (self.mapping.not_tradable, *(each.mapping.not_tradable for each in platforms)):
            for pattern, why in rules.items():
                if fnmatchcase(name, pattern):
                    raise SymbolRefused(SYMBOL_NOT_TRADABLE, f"{name!r} {why}")

    def _expected(self, platform: str | None) -> str:
        if platform is None:
            return "a contract looks like NQH25"
        templates = [form.template for form in self._platform(platform).forms.values()]
        return f"contracts there look like {' or '.join(templates)}"


class SymbolFile:
    """The mapping file and the book read from it, replaced only by a wholly valid newer version."""

    def __init__(self, path: Path, catalog: Catalog) -> None:
        """Read the file. Raises ConfigError when it is not valid: there is no old version to keep."""
        self._path = path
        self._catalog = catalog
        self._stamp = _stamp(path)
        self.book = self._read()

    def reload(self) -> tuple[MappingChange, ...]:
        """Read the file again and return the changes for the log.

        A file with any fault is refused whole: ConfigError names the reason and `book` stays as it was.
        """
        self._stamp = _stamp(self._path)
        book = self._read()
        changes = compare_mappings(self.book.mapping, book.mapping)
        self.book = book
        return changes

    def reload_if_changed(self) -> tuple[MappingChange, ...]:
        """Reload when time or size of the file differ from the last reading, good or bad. May raise as above."""
        return self.reload() if _stamp(self._path) != self._stamp else ()

    def _read(self) -> SymbolBook:
        mapping = read_mapping(self._path)
        try:
            return SymbolBook(mapping, self._catalog)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from error


def _compile_forms(
    entries: Mapping[str, FormEntry], catalog: Catalog, tables: FormTables, where: str
) -> dict[str, SymbolForm]:
    forms: dict[str, SymbolForm] = {}
    for name, entry in entries.items():
        roots = [each for each in catalog.futures() if each.exchange in entry.exchanges]
        try:
            forms[name] = SymbolForm(name, entry.name, roots, tables)
        except ConfigError as error:
            raise ConfigError(f"{where}.{name}: {error}") from error
    return forms


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
