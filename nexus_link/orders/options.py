"""Options of the link to the gateway: address, keys, name, outbox."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from ...core.errors import ConfigError
from ...core.transport import (
    KEYS_FOLDER,
    NEXUS,
    NEXUS_LINK,
    LinkTiming,
    client_endpoint,
    is_loopback,
    tcp_endpoint,
)
from ...shm import host
from ...shm.run_folder import check_name
from .book import BookTiming
from .outbox import Durability

if TYPE_CHECKING:
    from ...core.config import GatewayConfig

DEFAULT_PORT: Final = 5556
DEFAULT_NAME: Final = "nexus"


class LinkOptions(Struct, frozen=True, kw_only=True):
    """Options of the link; `gateway_options` and `options_of_config` make them.

    Attributes:
        name: of this NEXUS process. The gateway sends a signal's reports to this name, also after restarts, so no two
            processes may share one.
        endpoint: ZeroMQ address of the gateway's NEXUS port.
        keys_folder: of this NEXUS: its pair of keys and the gateway's public one, read at each connect.
        outbox: file of the signals that are not final, see `Outbox`.
    """

    name: str
    endpoint: str
    keys_folder: Path
    outbox: Path
    durability: Durability = "power"
    link_timing: LinkTiming = LinkTiming()
    book_timing: BookTiming = BookTiming()


def gateway_options(
    run_folder: Path | None = None,
    *,
    name: str = DEFAULT_NAME,
    port: int = DEFAULT_PORT,
    host_name: str = "127.0.0.1",
    keys_folder: Path | None = None,
    outbox: Path | None = None,
    durability: Durability = "power",
) -> LinkOptions:
    """Options for the gateway of a run folder, or for one on another machine.

    Args:
        run_folder: the gateway's; None = this user's default one. For another machine it only names the outbox.
        name: see `LinkOptions`.
        port: the gateway's `orders.nexus_port`.
        host_name: the gateway's address. A loopback one = this machine: its socket file is used where there is one,
            unless `keys_folder` is given without `run_folder`, as through a tunnel.
        keys_folder: None = `keys/nexus` in the run folder. For another machine the folder that `nexus-gateway keys
            make` has made (docs/operations.md).
        outbox: None = a file of this name and run folder in the user's local data folder, which survives a reboot.
            Never use one outbox with two gateways: signals of a rehearsal would be sent to the real one.
        durability: see `Outbox`.

    Raises:
        ConfigError: the name is not valid as a file name, there is neither a socket file nor a port, or another machine
            is named without a keys folder.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    folder = host.default_run_folder() if run_folder is None else run_folder
    if outbox is None:
        place = str(folder.absolute()) if is_loopback(host_name) else f"{host_name}:{port}"
        mark = hashlib.blake2b(place.encode(), digest_size=6).hexdigest()
        outbox = host.local_data_folder() / "nexus" / f"{name}-{mark}.outbox"
    if is_loopback(host_name) and (run_folder is not None or keys_folder is None):
        endpoint = client_endpoint(folder, NEXUS_LINK, host_name, port)
    elif keys_folder is None:
        raise ConfigError(
            f"host_name was {host_name!r}, another machine, and keys_folder was None; make keys for this one with: "
            "nexus-gateway keys make FOLDER, and name the folder"
        )
    else:
        endpoint = tcp_endpoint(host_name, port)
    return LinkOptions(
        name=name,
        endpoint=endpoint,
        keys_folder=folder / KEYS_FOLDER / NEXUS if keys_folder is None else keys_folder.expanduser(),
        outbox=outbox,
        durability=durability,
    )


def options_of_config(config: GatewayConfig, *, name: str = DEFAULT_NAME, outbox: Path | None = None) -> LinkOptions:
    """Options for the gateway that runs with this configuration here; the outbox is as durable as its journal.

    Args:
        name, outbox: as in `gateway_options`.

    Raises:
        ConfigError: the name is not valid as a file name, or there is neither a socket file nor a port.
    """
    orders = config.orders
    options = gateway_options(
        config.run_path,
        name=name,
        port=orders.nexus_port,
        keys_folder=config.keys_path / NEXUS,
        outbox=outbox,
        durability=orders.durability,
    )
    timing = LinkTiming(heartbeat_ms=orders.heartbeat_ms, mute_after_ms=orders.mute_after_ms)
    return structs.replace(options, link_timing=timing)
