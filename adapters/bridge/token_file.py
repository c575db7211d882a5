"""The token file of a bridge that the adapter itself starts: made at the first start, read by both. It lies in the run
folder, mode 0600; bridges that a person starts have a token of the configuration (`settings.py`).
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from ...core.errors import ConfigError
from ...shm import host

_TOKEN_BYTES = 32


def ensure_token(path: Path) -> str:
    """Return the token in `path`; make the file with a random one if it does not exist or holds no text.

    Raises:
        ConfigError: as `read_token`, or the file cannot be written.
    """
    if not _holds_text(path):
        try:
            write_token(path, secrets.token_urlsafe(_TOKEN_BYTES))
        except OSError as error:
            raise ConfigError(f"token file {path} cannot be written: {error.strerror}; correct its folder") from error
    return read_token(path)


def write_token(path: Path, token: str) -> None:
    """Write the token file, mode 0600, in one step. Raises OSError."""
    host.replace_private(path, token.encode())


def _holds_text(path: Path) -> bool:
    # Emptied or overwritten with something else, it would keep the adapter from starting until a person removes it.
    try:
        return bool(host.read_regular(path).decode("ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    except OSError:
        return True  # it is for `read_token` to say what is wrong


def read_token(path: Path) -> str:
    """Return the token in `path`.

    Raises:
        ConfigError: the file is missing, empty, or readable by other users.
    """
    try:
        token = host.read_regular(path).decode("ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token file {path} cannot be read ({error}); the adapter makes it at its start") from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"token file {path} has mode {oct(mode)}, allowed is 0o600; run: chmod 600 {path}")
    if not token:
        raise ConfigError(f"token file {path} is empty; remove it and restart the adapter, which makes a new one")
    return token
