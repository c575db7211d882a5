"""One form of a platform's contract names, written and read by the same template.

A template is literal text with fields: {root} or {root:table}, {M} month letter or {MM} month number, {Y},
{YY} or {YYYY} the year, {exchange} or {exchange:table}. A year is read with one, two or four digits whatever
the template writes, since platforms and users mix them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date

from ..errors import ConfigError
from .catalog import Catalog, Instrument
from .contract_code import MONTH_LETTERS, Contract, month_of_letter, resolve_year
from .refusals import SYMBOL_AMBIGUOUS, InstrumentRefused, SymbolRefused

_FIELD = re.compile(r"\{(root|exchange)(?::(\w+))?\}|\{(M|MM|Y|YY|YYYY)\}")
_MONTH_PATTERNS = {"M": f"(?P<letter>[{MONTH_LETTERS}])", "MM": "(?P<number>0[1-9]|1[0-2])"}
_YEAR_PATTERN = r"(?P<year>[0-9]{4}|[0-9]{2}|[0-9])"
_YEAR_FORMATS = {"Y": 1, "YY": 2, "YYYY": 4}


class SymbolForm:
    """A compiled template over the roots that it serves. Immutable.

    roots: universal root -> the name this form writes for it. exchanges: catalog exchange -> text written.
    """

    def __init__(self, name: str, template: str, instruments: Iterable[Instrument], tables: FormTables) -> None:
        self.name = name
        self.template = template
        self._parts = _split(template)
        root_table, exchange_table = _tables_of(self._parts, tables)
        self._roots: dict[str, str] = {}
        self._exchange_texts: dict[str, str] = {}
        for instrument in instruments:
            written = instrument.symbol if root_table is None else root_table.get(instrument.symbol)
            exchange = instrument.exchange if exchange_table is None else exchange_table.get(instrument.exchange)
            if written is not None and exchange is not None:
                self._roots[instrument.symbol] = written
                self._exchange_texts[instrument.symbol] = exchange
        self._by_length = sorted(
            ((written, root) for root, written in self._roots.items()), key=lambda pair: -len(pair[0])
        )
        if any(not text for text in (*self._roots.values(), *self._exchange_texts.values())):
            raise ConfigError(f"form {template!r} writes a root or exchange as nothing; give each a text")
        written_names = [written for written, _ in self._by_length]
        doubled = {each for each in written_names if written_names.count(each) > 1}
        if doubled:
            raise ConfigError(f"two roots are both written {', '.join(sorted(doubled))}; names must be distinct")
        before, after = self._around_root()
        self._before = re.compile(before)
        self._after = re.compile(after + r"\Z")

    def serves(self, root: str) -> bool:
        """Whether contracts of `root` have a name in this form."""
        return root in self._roots

    def write(self, contract: Contract) -> str:
        """Return the name of `contract`; the root must be served."""
        text = ""
        for kind, value in self._parts:
            if kind == "literal":
                text += value
            elif kind == "root":
                text += self._roots[contract.root]
            elif kind == "exchange":
                text += self._exchange_texts[contract.root]
            elif value in _YEAR_FORMATS:
                text += str(contract.year)[-_YEAR_FORMATS[value] :]
            else:
                text += contract.letter if value == "M" else f"{contract.month:02d}"
        return text

    def read(self, name: str, catalog: Catalog, on: date | None) -> Contract | None:
        """Return the contract named, the longest fitting root first, or None when the form does not fit.

        Raises SymbolRefused for a one-digit year without the date `on`, and InstrumentRefused for a month
        that is not listed.
        """
        start = self._before.match(name)
        if start is None:
            return None
        for written, root in self._by_length:
            if not name.startswith(written, start.end()):
                continue
            fields = self._after.match(name, start.end() + len(written))
            if fields is None or not self._exchange_fits(root, start, fields):
                continue
            found = fields.groupdict()
            month = month_of_letter(found["letter"]) if found.get("letter") else int(found["number"])
            digits = found["year"]
            if on is None and len(digits) == 1:
                raise _ambiguous_year(name, [Contract(root, int(f"20{d}{digits}"), month) for d in "123"])
            return catalog.contract(root, resolve_year(digits, on or date.min), month)
        return None

    def _exchange_fits(self, root: str, *matches: re.Match[str]) -> bool:
        return all(match.groupdict().get("exchange") in (None, self._exchange_texts[root]) for match in matches)

    def _around_root(self) -> tuple[str, str]:
        patterns = ["", ""]
        side = 0
        for kind, value in self._parts:
            if kind == "root":
                side = 1
            elif kind == "literal":
                patterns[side] += re.escape(value)
            elif kind == "exchange":
                texts = sorted(set(self._exchange_texts.values()), key=lambda text: -len(text))
                patterns[side] += f"(?P<exchange>{'|'.join(map(re.escape, texts))})"
            else:
                patterns[side] += _MONTH_PATTERNS.get(value, _YEAR_PATTERN)
        return patterns[0], patterns[1]


class FormTables:
    """Named tables that templates refer to: other vendors' roots and exchange texts."""

    def __init__(self, roots: Mapping[str, Mapping[str, str]], exchanges: Mapping[str, Mapping[str, str]]) -> None:
        self.roots = roots
        self.exchanges = exchanges


def read_all(
    forms: Iterable[SymbolForm], name: str, catalog: Catalog, on: date | None
) -> tuple[dict[Contract, list[str]], list[InstrumentRefused]]:
    """Return every contract that `name` can mean, with the names of the forms that say so, and refusals."""
    contracts: dict[Contract, list[str]] = {}
    refusals: list[InstrumentRefused] = []
    for form in forms:
        try:
            contract = form.read(name, catalog, on)
        except InstrumentRefused as refusal:
            refusals.append(refusal)
            continue
        if contract is not None:
            contracts.setdefault(contract, []).append(form.name)
    return contracts, refusals


def _ambiguous_year(name: str, contracts: list[Contract]) -> SymbolRefused:
    codes = tuple(contract.code for contract in contracts)
    return SymbolRefused(
        SYMBOL_AMBIGUOUS, f"{name!r} could be {' or '.join(codes)}; give the date on which it is read", codes
    )


def _split(template: str) -> list[tuple[str, str]]:
    """Return (kind, value) parts: literal text, root table, exchange table, or a month or year field."""
    parts: list[tuple[str, str]] = []
    position = 0
    for field in _FIELD.finditer(template):
        if field.start() > position:
            parts.append(("literal", template[position : field.start()]))
        if field.group(1):
            parts.append((field.group(1), field.group(2) or ""))
        else:
            parts.append(("date", field.group(3)))
        position = field.end()
    if position < len(template):
        parts.append(("literal", template[position:]))
    dates = [value for kind, value in parts if kind == "date"]
    months = [value for value in dates if value in _MONTH_PATTERNS]
    order = [kind for kind, _ in parts if kind in ("root", "date")]
    if order != ["root", "date", "date"] or len(months) != 1 or dates[0] != months[0]:
        raise ConfigError(
            f"form {template!r} needs one {{root}}, then one {{M}} or {{MM}}, then one {{Y}}, {{YY}} or {{YYYY}}"
        )
    if sum(kind == "exchange" for kind, _ in parts) > 1:
        raise ConfigError(f"form {template!r} has {{exchange}} twice; keep one of them")
    leftover = [value for kind, value in parts if kind == "literal" and ("{" in value or "}" in value)]
    if leftover:
        raise ConfigError(f"form {template!r} has an unknown field in {leftover[0]!r}")
    return parts


def _tables_of(
    parts: list[tuple[str, str]], tables: FormTables
) -> tuple[Mapping[str, str] | None, Mapping[str, str] | None]:
    chosen: dict[str, Mapping[str, str] | None] = {"root": None, "exchange": None}
    for kind, value in parts:
        if kind in chosen and value:
            known = tables.roots if kind == "root" else tables.exchanges
            if value not in known:
                raise ConfigError(f"{kind} table was {value!r}; use one of {', '.join(sorted(known)) or 'none'}")
            chosen[kind] = known[value]
    return chosen["root"], chosen["exchange"]
