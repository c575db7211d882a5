"""Options of the link to the gateway: address, token, name, outbox."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from ...core.errors import ConfigError
from ...core.transport import NEXUS_LINK, TOKEN_FILE, ClientKeys, LinkTiming, client_endpoint, read_client_keys
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
        token_file: written by the gateway, read at each connect.
        outbox: file of the signals that are not final, see `Outbox`.
        keys: for CURVE; None = not encrypted.
    """

    name: str
    endpoint: str
    token_file: Path
    outbox: Path
    durability: Durability = "power"
    keys: ClientKeys | None = None
    link_timing: LinkTiming = LinkTiming()
    book_timing: BookTiming = BookTiming()


def gateway_options(
    run_folder: Path | None = None,
    *,
    name: str = DEFAULT_NAME,
    port: int = DEFAULT_PORT,
    host_name: str = "127.0.0.1",
    token_file: Path | None = None,
    outbox: Path | None = None,
    durability: Durability = "power",
    keys: ClientKeys | None = None,
) -> LinkOptions:
    """Options for the gateway of a run folder.

    Args:
        run_folder: the gateway's; None = this user's default one.
        name: see `LinkOptions`.
        port, host_name: used where there is no socket file; the gateway's `orders.nexus_port` and `orders.host`.
        token_file: None = the one in the run folder.
        outbox: None = a file of this name and run folder in the user's local data folder, which survives a reboot.
            Never use one outbox with two gateways: signals of a rehearsal would be sent to the real one.
        durability: see `Outbox`.

    Raises:
        ConfigError: the name is not valid as a file name, or there is neither a socket file nor a port.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    folder = host.default_run_folder() if run_folder is None else run_folder
    if outbox is None:
        mark = hashlib.blake2b(str(folder.absolute()).encode(), digest_size=6).hexdigest()
        outbox = host.local_data_folder() / "nexus" / f"{name}-{mark}.outbox"
    return LinkOptions(
        name=name,
        endpoint=client_endpoint(folder, NEXUS_LINK, host_name, port),
        token_file=folder / TOKEN_FILE if token_file is None else token_file,
        outbox=outbox,
        durability=durability,
        keys=keys,
    )


def options_of_config(config: GatewayConfig, *, name: str = DEFAULT_NAME, outbox: Path | None = None) -> LinkOptions:
    """Options for the gateway that runs with this configuration; the outbox is as durable as its journal.

    Args:
        name, outbox: as in `gateway_options`.

    Raises:
        ConfigError: the name is not valid as a file name, there is neither a socket file nor a port, or the CURVE
            keys are missing.
    """
    orders, curve, keys = config.orders, config.orders.curve, None
    if curve is not None:
        if curve.server_key_file is None:
            raise ConfigError("orders.curve.server_key_file is missing; name the gateway's public .key file")
        keys = read_client_keys(Path(curve.secret_key_file).expanduser(), Path(curve.server_key_file).expanduser())
    options = gateway_options(
        config.run_path,
        name=name,
        port=orders.nexus_port,
        host_name=orders.host,
        token_file=config.token_path,
        outbox=outbox,
        durability=orders.durability,
        keys=keys,
    )
    timing = LinkTiming(heartbeat_ms=orders.heartbeat_ms, mute_after_ms=orders.mute_after_ms)
    return structs.replace(options, link_timing=timing)
