"""Addresses of the gateway's two ports, and which of them may be bound."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .keys import Proof

ADAPTER_LINK: Final = "adapters"
NEXUS_LINK: Final = "nexus"
KEYS_FOLDER: Final = "keys"
"""In the run folder, when `orders.keys_folder` names no other."""
_UNIX_PATH_BYTES: Final = 100
_ANY: Final = ("0.0.0.0", "::", "*")


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


def client_endpoint(run_folder: Path, link: str, bind_host: str, port: int) -> str:
    """Return the endpoint for a process of the gateway's machine: the socket file where there is one, else TCP.

    Raises:
        ConfigError: neither is possible.
    """
    host_name = "127.0.0.1" if bind_host in _ANY else bind_host
    return server_endpoints(run_folder, link, host_name, port)[0]


def tcp_endpoint(host: str, port: int) -> str:
    """Return the TCP endpoint in ZeroMQ's notation."""
    return f"tcp://{f'[{host}]' if ':' in host else host}:{port}"


def ipc_endpoint(folder: Path, name: str) -> str | None:
    """Return the endpoint of a socket file in the run folder; None on Windows, or when the path is too long for one."""
    path = folder / f"{name}.ipc"
    usable = os.name == "posix" and len(os.fsencode(path)) <= _UNIX_PATH_BYTES
    return f"ipc://{path}" if usable else None


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, allowed: Sequence[Proof], own: Sequence[str]) -> None:
    """Refuse a port that the network can reach while no key of another machine is allowed. `own`: names of the keys
    that the gateway makes for the processes of its own machine.

    Raises:
        ConfigError: a key has to be allowed first, or `host` be a loopback address.
    """
    if not is_loopback(host) and not any(proof.name not in own for proof in allowed):
        raise ConfigError(
            f"orders.host was {host!r}, which the network can reach, and no key of another machine is allowed yet; "
            "allow one first: nexus-gateway keys allow nexus.NAME KEY, or write 127.0.0.1"
        )
