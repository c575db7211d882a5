"""Converts plain mappings to typed, frozen settings, and reports every fault of a mapping at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from ..bounds import MAX_DECIMAL_PLACES, MAX_MAGNITUDE, PLAIN_TEXT, PLAIN_TEXT_WORDS, is_bounded
from ..errors import ConfigError
from ..logs import HIDDEN, is_secret
from .yaml_file import KeyPath, show_path

StructType = TypeVar("StructType", bound=Struct)

_UNIT_OF_SUFFIX: Final = {
    "_s": "seconds",
    "_ms": "milliseconds",
    "_us": "microseconds",
    "_ns": "nanoseconds",
    "_bytes": "bytes",
    "_ticks": "ticks",
    "_lots": "lots",
    "_usd": "US dollars",
}


def convert_settings(struct_type: type[StructType], mapping: Mapping[str, Any], where: str) -> StructType:
    """Convert an adapter's `settings` mapping of platform_configs.yaml to its own struct.

    The struct may hold numbers, text, bool, Decimal, Literal, other structs, and lists, tuples and dicts of these;
    ranges are given with `msgspec.Meta`. Rules about several keys are checked in its `__post_init__`, which raises
    ValueError with a text that begins with the key's name. Unknown keys are always refused.

    Args:
        where: begins each message, such as "platform_configs.yaml: nt8.settings".

    Raises:
        ConfigError: one line per fault: key path, value, limit, cure.
    """
    converter = Converter(lambda path: f"{where}: {show_path(path)}" if path else where)
    settings = converter.convert_struct(mapping, struct_type, ())
    converter.raise_problems()
    assert isinstance(settings, struct_type)
    return settings


class Converter:
    """Collects the problems of one or more conversions.

    Attributes:
        problems: one text per fault, so far.
    """

    def __init__(self, place: Callable[[KeyPath], str]) -> None:
        """`place(path)` returns file, line and key of a path, for the start of a message."""
        self.problems: list[str] = []
        self._place = place

    def raise_problems(self) -> None:
        """Raise ConfigError with all problems, one per line, if there are any."""
        if self.problems:
            raise ConfigError("\n".join(self.problems))

    def convert_struct(self, value: Any, struct_type: type[Struct], path: KeyPath) -> Struct | None:
        """The struct; None when a problem was added."""
        if not isinstance(value, Mapping):
            self._refuse(path, value, "must be a mapping", "write `key: value` lines")
            return None
        problems_before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct_type)}
        for key in value:
            if key not in fields:
                self.refuse_key((*path, key), list(fields))
        arguments = {}
        for name, field in fields.items():
            if name in value:
                default = field.default if field.default is not NODEFAULT else None
                arguments[field.name] = self.convert(value[name], field.type, (*path, name), default)
            elif field.required:
                wanted = describe(inspect.type_info(field.type))
                self.problems.append(f"{self._place((*path, name))} is missing; add it: {wanted}")
        if len(self.problems) > problems_before:
            return None
        try:
            return struct_type(**arguments)
        except ValueError as error:
            key = str(error).partition(" ")[0]
            if key in fields:
                self.problems.append(f"{self._place((*path, key))}{str(error)[len(key) :]}")
            else:
                self.problems.append(f"{self._place(path)}: {error}")
            return None

    def convert(self, value: Any, wanted: Any, path: KeyPath, default: Any = None) -> Any:
        """The value as type `wanted`; None when it cannot be converted, and a problem is added."""
        while get_origin(wanted) is Annotated and not _is_scalar(wanted):
            wanted = get_args(wanted)[0]
        kind = inspect.type_info(wanted)
        if isinstance(kind, inspect.UnionType):
            members = [member for member in get_args(wanted) if member is not type(None)]
            if value is None and kind.includes_none:
                return None
            if len(members) == 1:
                return self.convert(value, members[0], path, default)
        if isinstance(kind, inspect.StructType):
            return self.convert_struct(value, kind.cls, path)
        if isinstance(kind, inspect.DictType) and isinstance(value, Mapping):
            _, member = get_args(wanted) or (str, Any)
            return {key: self.convert(item, member, (*path, key)) for key, item in value.items()}
        if isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list | tuple):
            member = (get_args(wanted) or (Any,))[0]
            items = [self.convert(item, member, (*path, index)) for index, item in enumerate(value)]
            return items if isinstance(kind, inspect.ListType) else tuple(items)
        return self._convert_scalar(value, wanted, path, default)

    def _convert_scalar(self, value: Any, wanted: Any, path: KeyPath, default: Any) -> Any:
        kind = inspect.type_info(wanted)
        inexact = isinstance(kind, inspect.DecimalType) and isinstance(value, float)
        try:
            converted = msgspec.convert(value, wanted, strict=True)
            if isinstance(converted, Decimal) and converted.is_finite() and not is_bounded(converted):
                limit = f"must have at most {MAX_DECIMAL_PLACES} decimals and lie within ±{MAX_MAGNITUDE:f}"
                self._refuse(path, value, limit, "correct it")
                return None
            if not inexact and _is_finite(converted):
                return converted
        except msgspec.ValidationError:
            pass  # the message below is better: it has the limit as written in YAML, and the cure
        self._refuse(path, value, f"must be {describe(kind)}", _cure(kind, value, path, default))
        return None

    def _refuse(self, path: KeyPath, value: Any, limit: str, cure: str) -> None:
        shown = HIDDEN if any(is_secret(str(step)) for step in path) else show_value(value)
        self.problems.append(f"{self._place(path)} was {shown}, {limit}; {cure}")

    def refuse_key(self, path: KeyPath, known: list[str]) -> None:
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known) or 'none'}"
        self.problems.append(f"{self._place(path)} is not a known key; {cure}")


def describe(kind: inspect.Type) -> str:
    """Describe the values that a type allows, as text for a user who writes YAML."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            bounds = [
                f"{word} {bound}"
                for word, bound in (
                    ("above", kind.gt),
                    ("at least", kind.ge),
                    ("below", kind.lt),
                    ("at most", kind.le),
                    ("a multiple of", kind.multiple_of),
                )
                if bound is not None
            ]
            return f"{noun} {' and '.join(bounds)}".rstrip()
        case inspect.StrType():
            if kind.pattern == PLAIN_TEXT:
                return PLAIN_TEXT_WORDS
            return f"text matching {kind.pattern}" if kind.pattern else "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.DecimalType():
            return "an exact decimal number"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.ListType() | inspect.VarTupleType():
            return f"a list of {describe(kind.item_type)}"
        case inspect.DictType() | inspect.StructType():
            return "a mapping"
        case inspect.UnionType():
            return " or ".join(describe(member) for member in kind.types)
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def show_value(value: Any) -> str:
    """A value as YAML text, cut off after 60 characters."""
    text = msgspec.json.encode(value).decode() if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _cure(kind: inspect.Type, value: Any, path: KeyPath, default: Any) -> str:
    if isinstance(kind, inspect.DecimalType):
        return 'write it in quotes, such as "0.25"'
    if isinstance(kind, inspect.IntType | inspect.FloatType) and isinstance(value, str):
        key = next((step for step in reversed(path) if isinstance(step, str)), "")
        unit = next((word for suffix, word in _UNIT_OF_SUFFIX.items() if key.endswith(suffix)), "")
        return f"write the bare number{f' of {unit}' if unit else ''}"
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return "write a list: [a, b]"
    if default is not None:
        return f"the default is {show_value(default)}"
    if isinstance(kind, inspect.StrType) and not isinstance(value, str):
        return "put it in quotes"
    return "correct it"


def _is_scalar(wanted: Any) -> bool:
    containers = (inspect.DictType, inspect.ListType, inspect.VarTupleType, inspect.StructType, inspect.UnionType)
    return not isinstance(inspect.type_info(wanted), containers)


def _is_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return not isinstance(value, float) or math.isfinite(value)
