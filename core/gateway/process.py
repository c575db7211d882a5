"""Entry of the gateway process: opens journal and ports, then turns until it is to stop."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ..config import GatewayConfig
from ..kill_file import kill_file_path
from ..messages import Hello, Role, Welcome
from ..process import EXIT_CLEAN, ProcessContext
from ..transport import (
    ADAPTER_LINK,
    NEXUS_LINK,
    LinkServer,
    LinkTiming,
    ServerKeys,
    ServerSettings,
    check_host,
    ensure_token,
    make_server_socket,
    read_server_keys,
    server_endpoints,
    start_authenticator,
)
from .counters import COUNTERS, HISTOGRAMS, GatewayCounters
from .gateway import Gateway
from .journaled_engine import JournaledEngine


def main(context: ProcessContext) -> int:
    """Run the gateway until it is to stop.

    Raises:
        ConfigError: keys, ports or files; the process is not restarted.
        JournalError: the journal is damaged or in use.
    """
    config, log = context.config, context.log
    counters = GatewayCounters(context.open_counters(COUNTERS, HISTOGRAMS))
    keys = _server_keys(config)
    check_host(config.orders.host, keys)
    token = ensure_token(config.token_path)
    boot_id = uuid.uuid4().hex
    # The journal first: it belongs to one gateway, while binding the socket file would take it from a living one.
    journaled = JournaledEngine(config, log, context.beat)
    authenticator = None if keys is None else start_authenticator(keys)
    gateway = None
    try:
        gateway = Gateway(
            context,
            journaled,
            _port(context, ADAPTER_LINK, config.orders.adapter_port, (Role.ADAPTER,), token, boot_id, keys),
            _port(context, NEXUS_LINK, config.orders.nexus_port, (Role.NEXUS, Role.ADMIN), token, boot_id, keys),
            counters,
            boot_id,
            kill_file_path(context.run_folder),
        )
        gateway.start()
        log.info("gateway is up", boot_id=boot_id, stage=journaled.engine.state.stage, curve=keys is not None)
        while not context.stopping:
            gateway.turn()
            context.beat()
        # Only after a clean turn: what an exception has left half done is rebuilt from the events, not saved.
        journaled.checkpoint(time.time_ns(), always=True)
    finally:
        if gateway is not None:
            gateway.stop()
        journaled.close()
        if authenticator is not None:
            authenticator.stop()
    return EXIT_CLEAN


def _server_keys(config: GatewayConfig) -> ServerKeys | None:
    curve = config.orders.curve
    if curve is None or curve.clients_folder is None:
        return None
    return read_server_keys(Path(curve.secret_key_file).expanduser(), Path(curve.clients_folder).expanduser())


def _port(
    context: ProcessContext,
    link: str,
    port: int,
    roles: tuple[Role, ...],
    token: str,
    boot_id: str,
    keys: ServerKeys | None,
) -> Callable[[Callable[[Hello], Welcome]], LinkServer]:
    """What makes a port, once there is somebody to greet with."""
    orders = context.config.orders

    def make(greet: Callable[[Hello], Welcome]) -> LinkServer:
        endpoints = server_endpoints(context.run_folder, link, orders.host, port)
        settings = ServerSettings(
            sender="gateway",
            boot_id=boot_id,
            roles=roles,
            token=token,
            timing=LinkTiming(heartbeat_ms=orders.heartbeat_ms, mute_after_ms=orders.mute_after_ms),
            max_peers=orders.max_peers,
        )
        server = LinkServer(make_server_socket(endpoints, orders.queue_messages, keys), settings, greet)
        context.log.info("port is open", link=link, endpoints=endpoints)
        return server

    return make
