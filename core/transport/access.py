"""How a process of this machine finds the gateway and proves that it may talk to it: endpoints and the token file.

The token lives in the run folder (0700, file 0600): another user of the machine reaches the loopback ports as well as
we do, and must not be able to trade.
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
    """The token in `path`, made at random when there is no such file. The gateway calls it, others `read_token`.

    Raises:
        ConfigError: as `read_token`, or the file cannot be written.
    """
    if not path.exists():
        try:
            host.replace_private(path, secrets.token_urlsafe(_TOKEN_BYTES).encode())
        except OSError as error:
            raise ConfigError(
                f"token file {path} cannot be written: {error.strerror}; correct orders.token_file"
            ) from error
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in `path`.

    Raises:
        ConfigError: it is not there, empty, or others may read it.
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
    """Where a port of the gateway is bound: the socket file where there are such, and TCP unless `port` is 0.

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
    """Where a process of the same machine connects: the same choice as the gateway's, the socket file first."""
    return server_endpoints(run_folder, link, connect_host, port)[0]
