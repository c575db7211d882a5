"""Writes docs/messages.md from the message types: `python -m tests.golden.fields`. A test compares the two."""

from __future__ import annotations

import inspect as python_inspect
import typing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect
from nexus_gateway.core import messages as m
from nexus_gateway.core.bounds import PLAIN_TEXT

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
_HEAD = """# Messages: every field

Written by `python -m tests.golden.fields` from `core/messages`, link version {version}. [protocol.md](protocol.md)
says who sends what and when; one example of each message is in `tests/golden/messages/*.json`.

- A field with a default may be left out. A field that is not listed here is refused (`malformed`), and so is a value
  outside its limits.
- Decimals are texts in plain notation. Times are UTC nanoseconds since 1970, as integers. `text` is UTF-8.
- Decimals are finite, with at most 12 decimals; prices lie within ±10^9, sizes up to 10^6, money within ±10^12.
  What the gateway computes (reports, account states) may have more decimals.
- Plain text has no control and format characters, bidirectional and zero-width marks and line separators (Unicode
  categories Cc, Cf, Zl, Zp).
- `(platform)` = mt5, mt5_br, nt8, sierra, bookmap or quantower, or another key of platform_configs.yaml.
"""


def write_page() -> str:
    """The page as the types are now."""
    envelope = typing.cast(inspect.StructType, inspect.type_info(m.Envelope))
    parts: dict[str, inspect.StructType] = {}
    bodies = [typing.cast(inspect.StructType, inspect.type_info(each)) for each in typing.get_args(m.Message)]
    lines = [_HEAD.format(version=m.PROTOCOL_VERSION), "## Envelope", "", *_table(envelope, parts, skip=("body",))]
    for body in sorted(bodies, key=lambda each: str(each.tag)):
        lines += ["", f"## {body.tag}", "", _first_sentence(body.cls), "", *_table(body, parts)]
    lines += ["", "# Parts of messages"]
    done: set[str] = set()
    while names := sorted(parts.keys() - done):
        for name in names:
            done.add(name)
            lines += ["", f"## {name}", "", _first_sentence(parts[name].cls), "", *_table(parts[name], parts)]
    return "\n".join(lines) + "\n"


def _first_sentence(cls: type) -> str:
    text = " ".join((python_inspect.getdoc(cls) or "").split())
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]


def _table(struct: inspect.StructType, parts: dict[str, inspect.StructType], skip: tuple[str, ...] = ()) -> list[str]:
    lines = ["| field | type | default |", "|---|---|---|"]
    for each in struct.fields:
        if each.name not in skip:
            default = "" if each.required else f"`{_plain(each.default)}`"
            lines.append(f"| `{each.encode_name}` | {_name(each.type, parts)} | {default} |")
    return lines if len(lines) > 2 else ["no fields"]


def _plain(value: Any) -> str:
    if value is msgspec.NODEFAULT:
        return "{}"
    return msgspec.json.encode(value).decode()


def _name(kind: Any, parts: dict[str, inspect.StructType]) -> str:
    match kind:
        case inspect.StructType():
            if any(kind.cls is each for each in typing.get_args(m.Message)):
                return f"[{kind.tag}](#{kind.tag})"
            parts[kind.cls.__name__] = kind
            return f"[{kind.cls.__name__}](#{kind.cls.__name__.lower()})"
        case inspect.EnumType():
            return " \\| ".join(f"`{each.value}`" for each in kind.cls)
        case inspect.UnionType():
            return " or ".join(_name(each, parts) for each in kind.types)
        case inspect.VarTupleType() | inspect.ListType():
            return f"list of {_name(kind.item_type, parts)}{_limits(kind)}"
        case inspect.TupleType():
            return "list of " + ", ".join(_name(each, parts) for each in kind.item_types)
        case inspect.DictType():
            return f"map of {_name(kind.key_type, parts)} to {_name(kind.value_type, parts)}{_limits(kind)}"
        case inspect.Metadata():
            return _name(kind.type, parts)
        case inspect.IntType():
            return f"integer{_limits(kind)}"
        case inspect.FloatType():
            return f"number{_limits(kind)}"
        case inspect.StrType():
            return f"text{_limits(kind)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.DecimalType():
            return "decimal"
        case inspect.LiteralType():
            return " \\| ".join(f"`{each}`" for each in kind.values)
    raise TypeError(f"a field of type {kind} has no words yet")


def _limits(kind: Any) -> str:
    found = []
    for key, word in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if (value := getattr(kind, key, None)) is not None:
            found.append(f"{word} {value}")
    least, most = getattr(kind, "min_length", None), getattr(kind, "max_length", None)
    if least is not None or most is not None:
        unit = "characters" if isinstance(kind, inspect.StrType) else "entries"
        found.append(f"{least or 0} to {most} {unit}" if most is not None else f"at least {least} {unit}")
    pattern = getattr(kind, "pattern", None)
    if pattern == PLAIN_TEXT:
        found.append("plain")
    elif pattern is not None:
        found.append("`" + pattern.replace("|", "\\|") + "`")
    return f", {', '.join(found)}" if found else ""


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
