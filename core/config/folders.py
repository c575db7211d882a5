"""Folders and files that the configuration names."""

from __future__ import annotations

from pathlib import Path


def folder_or(folder: str | None, default: Path) -> Path:
    """Return the folder or file that is configured, else its default."""
    return default if folder is None else Path(folder).expanduser()


def check_folder(key: str, folder: str | None) -> None:
    """Raises: ValueError when the path is relative."""
    # Never relative: else the files of a trading process depend on the folder from which it was started.
    if folder is not None and not Path(folder).expanduser().is_absolute():
        raise ValueError(f"{key} was {folder!r}, must be an absolute path or begin with ~; write null for the default")
