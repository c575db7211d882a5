"""Reading a YAML file so that every later complaint can name the line.

Stricter than YAML itself: a key given twice is refused (YAML keeps the last one, so half of an edit would be lost in
silence), and so are dates and other values that JSON has no form for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from ..errors import ConfigError

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: mapping keys and list positions, from the top."""

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


def read_yaml(path: Path) -> YamlFile:
    """Read one file. An empty one is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, has a key twice, or is not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: holds the character #x{error.character:04x}; remove it") from error
    try:
        root = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        content = {} if root is None else _build(path, loader, root, (), lines)
    except yaml.YAMLError as error:
        raise ConfigError(_describe_syntax(path, error)) from error
    except RecursionError:
        raise ConfigError(f"{path} contains itself through an alias (*name); write the values out") from None
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
            if key in mapping:
                full = show_path((*where, key))
                raise ConfigError(f"{place}: {full} was given twice, allowed is once; remove one of the two")
            mapping[key] = _build(path, loader, value_node, (*where, key), lines)
        return mapping
    try:
        value = loader.construct_object(node, deep=True)
    except ValueError as error:  # looks like a date or number, and is none
        raise ConfigError(f"{path}:{line}: {show_path(where)} was {node.value}: {error}; put it in quotes") from error
    if value is not None and not isinstance(value, str | int | float | bool):
        raise ConfigError(f"{path}:{line}: {show_path(where)} was {_kind(value)} {node.value}; put it in quotes")
    return value


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
