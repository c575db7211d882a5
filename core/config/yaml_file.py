"""Reading a YAML file so that every later complaint can name the line.

Stricter than YAML itself. Refused are:

- a key given twice: YAML keeps the last one, so half of an edit would be lost in silence;
- dates and other values that JSON has no form for;
- anchors, aliases and merge keys: 200 bytes of them build a list with a million entries, and a value that stands in
  another place than its line says cannot be named in an error;
- control, format and bidirectional characters, which make a name read as another one;
- nesting deeper than `MAX_DEPTH`: no setting needs it, and Python's stack ends somewhere behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from ..bounds import PLAIN_TEXT_WORDS, is_plain
from ..errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: mapping keys and list positions, from the top."""

MAX_DEPTH: Final = 32
"""Most lists and mappings inside each other."""

_SHOWN_CHARS: Final = 60
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_COLLECTION_TAGS: Final = (yaml.SafeLoader.DEFAULT_MAPPING_TAG, yaml.SafeLoader.DEFAULT_SEQUENCE_TAG)


@dataclass(frozen=True)
class YamlFile:
    """What a file says. `lines`: line number of each value, from 1, by its key path."""

    path: Path
    content: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """File and line of the value at `path`, or of what it would stand in when it is missing."""
        while path not in self.lines and path:
            path = path[:-1]
        return f"{self.path}:{self.lines.get(path, 1)}"


class _PlainLoader(yaml.SafeLoader):
    """Stops at the first anchor, alias or too deep value, before anything is built from it."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._path = path
        self._where: list[str | int | None] = []
        """Where the node that is being read stands. None: the root, or a key."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # PyYAML gives an item's number in a list, the key's node in a mapping, and None for the root and for a key.
        step = str(index.value) if isinstance(index, yaml.Node) else index
        self._where.append(step)
        self._check(self.peek_event())  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        node = super().compose_node(parent, index)
        self._where.pop()
        return node

    def _check(self, event: yaml.Event) -> None:
        where = tuple(step for step in self._where if step is not None)
        name = show_path(where) or "the file"
        assert event.start_mark is not None  # the parser sets it on each event
        place = f"{self._path}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(
                f"{place}: {name} was the alias *{event.anchor}, must be written out; "
                f"copy what &{event.anchor} marks to this place"
            )
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            raise ConfigError(
                f"{place}: {name} was marked with the anchor &{anchor}, must be plain; "
                f"remove &{anchor} and write the value out wherever *{anchor} stands"
            )
        if len(self._where) > MAX_DEPTH + 1:
            top = show_path(where[:1]) or "the file"
            raise ConfigError(
                f"{place}: {top} was nested deeper than {MAX_DEPTH} levels, the most that is allowed; "
                "check its indentation and brackets"
            )


def read_yaml(path: Path) -> YamlFile:
    """Read one file. An empty one is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, has a key twice, an anchor, an alias, a merge key or more
            than `MAX_DEPTH` levels, or is not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    try:
        loader = _PlainLoader(text, path)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: holds the character #x{error.character:04x}; remove it") from error
    try:
        root = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        content = {} if root is None else _build(path, loader, root, (), lines)
    except yaml.YAMLError as error:
        raise ConfigError(_describe_syntax(path, error)) from error
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise ConfigError(f"{path}:1: the file was {_kind(content)}, must be a mapping; write `key: value` lines")
    return YamlFile(path, content, lines)


def _build(path: Path, loader: yaml.SafeLoader, node: yaml.Node, where: KeyPath, lines: dict[KeyPath, int]) -> Any:
    line = node.start_mark.line + 1
    lines[where] = line
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTION_TAGS:
        raise ConfigError(f"{path}:{line}: {show_path(where)} was tagged {node.tag}, must be plain; remove the tag")
    if isinstance(node, yaml.SequenceNode):
        return [_build(path, loader, item, (*where, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            place = f"{path}:{key_node.start_mark.line + 1}"
            if key is None:
                raise ConfigError(f"{place}: a key was a list or mapping, must be text")
            _check_text(place, f"a key in {show_path(where) or 'the file'}", key)
            full = show_path((*where, key))
            if key_node.tag == _MERGE_TAG:
                raise ConfigError(f"{place}: {full} was a merge key, must be plain; write its keys out here")
            if key in mapping:
                raise ConfigError(f"{place}: {full} was given twice, allowed is once; remove one of the two")
            mapping[key] = _build(path, loader, value_node, (*where, key), lines)
        return mapping
    try:
        value = loader.construct_object(node, deep=True)
    except ValueError as error:  # looks like a date or number, and is none
        raise ConfigError(f"{path}:{line}: {show_path(where)} was {node.value}: {error}; put it in quotes") from error
    if isinstance(value, str):
        _check_text(f"{path}:{line}", show_path(where), value)
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ConfigError(f"{path}:{line}: {show_path(where)} was {_kind(value)} {node.value}; put it in quotes")
    return value


def _check_text(place: str, name: str, text: str) -> None:
    if not is_plain(text.replace("\n", "").replace("\t", "")):  # a sentence may have several lines
        shown = ascii(text)
        shown = shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "..."
        raise ConfigError(f"{place}: {name} was {shown}, must be {PLAIN_TEXT_WORDS}; type it again")


def show_path(path: KeyPath) -> str:
    """A key path as people write it: `symbols[3].tick_size`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _kind(value: object) -> str:
    return {"list": "a list", "str": "text", "NoneType": "empty"}.get(type(value).__name__, f"a {type(value).__name__}")


def _describe_syntax(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return f"{path} is not valid YAML: {problem}; check the file's characters"
    return (
        f"{path}:{mark.line + 1}: not valid YAML at column {mark.column + 1}: {problem}; "
        "check indentation (spaces only), colons and quotes there"
    )
