"""Reading the YAML data of this package and of the user: strict, because money depends on each value."""

from __future__ import annotations

from collections.abc import Hashable
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from ..errors import ConfigError

T = TypeVar("T")


_MAX_DEPTH: Final = 32


class _StrictLoader(yaml.SafeLoader):
    """Refuses doubled keys, anchors, aliases and deep nesting, before anything is built from them.

    Plain YAML silently keeps the last of two equal keys, and 200 bytes of aliases build a list with a million entries.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        line = event.start_mark.line + 1
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            raise ConfigError(
                f"line {line} uses the anchor or alias {anchor!r}, must be plain; write the value out there"
            )
        if self._depth > _MAX_DEPTH:
            raise ConfigError(f"line {line} is nested deeper than {_MAX_DEPTH} levels; check indentation and brackets")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"key {key!r} appears twice, again in line {line}; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_packaged_yaml(name: str, shape: type[T]) -> T:
    """Return the data file `name` that ships with this package, checked against `shape`.

    Raises ConfigError.
    """
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return convert_yaml(text, shape, name)


def read_yaml(path: Path, shape: type[T]) -> T:
    """Return a user's YAML file checked against `shape`. Raises ConfigError that names the file."""
    return convert_yaml(read_text(path), shape, str(path))


def read_text(path: Path) -> str:
    """Return a user's text file, UTF-8 with or without the mark that Windows editors put in front.

    Raises ConfigError: a file in another encoding must not end the process that looks whether it has changed.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def convert_yaml(text: str, shape: type[T], origin: str) -> T:
    """Return YAML `text` as `shape`; unknown keys, doubled keys and wrong types raise ConfigError."""
    try:
        raw = yaml.load(text, Loader=_StrictLoader)
        return msgspec.convert(raw, shape)
    except (yaml.YAMLError, msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{origin}: {error}") from error
