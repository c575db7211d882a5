"""Endpoints of the gateway and the token file, by which a process of the same machine finds it and is admitted.

The token lies in the run folder (mode 0700, file 0600). Any user of the machine can reach the loopback ports; only the
owner of the run folder can read the token, and so only he can trade.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from ...shm import host
from ..errors import ConfigError
from .sockets import ipc_endpoint, tcp_endpoint

ADAPTER_LINK = "adapters"
NEXUS_LINK = "nexus"
TOKEN_FILE = "gateway.token"
_TOKEN_BYTES = 32


def ensure_token(path: Path) -> str:
    """Return the token in `path`; make the file with a random one if it does not exist or holds no text. For the
    gateway only; its clients read the file again when their token is refused.

    Raises:
        ConfigError: as `read_token`, or the file cannot be written.
    """
    if not _holds_text(path):
        try:
            write_token(path, secrets.token_urlsafe(_TOKEN_BYTES))
        except OSError as error:
            raise ConfigError(
                f"token file {path} cannot be written: {error.strerror}; correct orders.token_file"
            ) from error
    return read_token(path)


def write_token(path: Path, token: str) -> None:
    """Write the token file, mode 0600, in one step. Raises OSError."""
    host.replace_private(path, token.encode())


def _holds_text(path: Path) -> bool:
    # Emptied or overwritten with something else, it would keep the gateway from starting until somebody removes it.
    try:
        return bool(path.read_text(encoding="ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    except OSError:
        return True  # it is for `read_token` to say what is wrong


def read_token(path: Path) -> str:
    """Return the token in `path`. For every process but the gateway.

    Raises:
        ConfigError: the file is missing, empty, or readable by other users.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"token file {path} cannot be read ({error}); the gateway makes it at its first start"
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"token file {path} has mode {oct(mode)}, allowed is 0o600; run: chmod 600 {path}")
    if not token:
        raise ConfigError(f"token file {path} is empty; remove it and restart the gateway, which makes a new one")
    return token


def server_endpoints(run_folder: Path, link: str, bind_host: str, port: int) -> list[str]:
    """Return the endpoints that a port of the gateway binds: a socket file where possible, and TCP unless `port` is 0.

    Raises:
        ConfigError: neither is possible.
    """
    ipc = ipc_endpoint(run_folder, link)
    endpoints = [] if ipc is None else [ipc]
    if port:
        endpoints.append(tcp_endpoint(bind_host, port))
    if not endpoints:
        raise ConfigError(
            f"orders.{'adapter' if link == ADAPTER_LINK else 'nexus'}_port was 0, which needs socket files; "
            f"there are none here (Windows, or the run folder's path {run_folder} is too long); write a port"
        )
    return endpoints


def client_endpoint(run_folder: Path, link: str, connect_host: str, port: int) -> str:
    """Return the endpoint for a process of the same machine: the socket file where there is one, else TCP."""
    return server_endpoints(run_folder, link, connect_host, port)[0]
