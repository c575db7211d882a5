"""Entry of the gateway process: open the journal and the ports, then turn until the process is stopped."""

from __future__ import annotations

import gc
import time
import uuid
from pathlib import Path

from ..config import GatewayConfig
from ..errors import GatewayError
from ..kill_file import kill_file_path
from ..messages import Role
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
from .archiving import JournalArchiving
from .clock import Clock
from .counters import COUNTERS, HISTOGRAMS, GatewayCounters
from .disk_guard import DiskGuard
from .gateway import Gateway
from .greeting import Greeter
from .journaled_engine import JournaledEngine
from .kill_instructions import KillInstructions
from .markets import Markets
from .port_files import PortFiles
from .ports import Ports
from .rolls import LiveContracts


class _StoppedError(GatewayError):
    """The process was asked to stop while it reads its journal, which may take minutes."""


def main(context: ProcessContext) -> int:
    """Run the gateway until it is stopped.

    Raises:
        ConfigError: keys, ports or files; the process is not restarted.
        JournalError: the journal is damaged or in use.
    """
    config, log = context.config, context.log
    counters = GatewayCounters(context.open_counters(COUNTERS, HISTOGRAMS))

    def show_recovery(share: float) -> None:
        counters.show_recovery(share)
        context.beat()
        if context.stopping:
            raise _StoppedError

    keys = _server_keys(config)
    check_host(config.orders.host, keys)
    token = ensure_token(config.token_path)
    boot_id = uuid.uuid4().hex
    # The journal before the ports: its lock shows that no other gateway runs on it. Binding first would take the
    # socket file away from a gateway that does.
    counters.show_recovery(0.0)  # before the first heartbeat: from that on the launcher looks at the phase
    try:
        journaled = JournaledEngine.open(config, log, show_recovery)
    except _StoppedError:
        log.info("stopped while the journal was read; the next start goes on behind the last checkpoint")
        return EXIT_CLEAN
    # What was loaded stays for long and has no cycles: to walk it at each full collection would take a turn 60 ms.
    gc.collect()
    gc.freeze()
    counters.end_recovery()
    authenticator = None if keys is None else start_authenticator(keys)
    clock = Clock()
    archiving = JournalArchiving(journaled.journal, config.orders.keep_days, config.disk.archives_stop_bytes, log)
    disk = DiskGuard(journaled.journal.room, config.disk.entries_stop_bytes, log)
    ports: list[LinkServer] = []
    endpoints: list[str] = []
    try:
        # Before the ports as well: it takes a second, in which hellos would wait in vain.
        markets = Markets(config, context.run_folder, log)
        kills = KillInstructions(kill_file_path(context.run_folder), log)
        greeter = Greeter(config, journaled, kills, boot_id)
        for link, port, roles in (
            (ADAPTER_LINK, config.orders.adapter_port, (Role.ADAPTER,)),
            (NEXUS_LINK, config.orders.nexus_port, (Role.NEXUS, Role.ADMIN)),
        ):
            settings = ServerSettings(
                sender="gateway",
                boot_id=boot_id,
                roles=roles,
                token=token,
                timing=LinkTiming(heartbeat_ms=config.orders.heartbeat_ms, mute_after_ms=config.orders.mute_after_ms),
                max_peers=config.orders.max_peers,
            )
            bound = server_endpoints(context.run_folder, link, config.orders.host, port)
            endpoints += bound
            ports.append(_open_port(context, link, bound, settings, greeter, keys))
        contracts = LiveContracts(config, context.run_folder, markets, log)
        gateway = Gateway(context, clock, journaled, markets, contracts, Ports(*ports), kills, counters, boot_id)
        gateway.start()
        files = PortFiles(config.token_path, token, endpoints, log)
        log.info("gateway is up", boot_id=boot_id, stage=journaled.engine.state.stage, curve=keys is not None)
        while not context.stopping:
            events_before = journaled.journal.last_seq
            gateway.turn()
            if journaled.journal.last_seq == events_before:
                archiving.step(clock.wall_ns() - journaled.engine.state.wall_offset_ns)
            if kill := disk.step(clock.steady_ns(), journaled.engine.state):
                gateway.obey(kill)
            context.beat()
            if damage := files.check(time.monotonic_ns()):
                context.stop_for_lost_file(damage)
        # Only after a clean turn. State that an exception left half changed must not become a checkpoint: without one
        # the next start rebuilds it from the events.
        journaled.checkpoint(journaled.engine.state.now_ns, always=True)
    finally:
        # Positions and working orders stay as they are: they live at the platforms.
        for server in ports:
            server.close()
        archiving.close()
        journaled.close()
        if authenticator is not None:
            authenticator.stop()
    return EXIT_CLEAN


def _server_keys(config: GatewayConfig) -> ServerKeys | None:
    curve = config.orders.curve
    if curve is None or curve.clients_folder is None:
        return None
    return read_server_keys(Path(curve.secret_key_file).expanduser(), Path(curve.clients_folder).expanduser())


def _open_port(
    context: ProcessContext,
    link: str,
    endpoints: list[str],
    settings: ServerSettings,
    greeter: Greeter,
    keys: ServerKeys | None,
) -> LinkServer:
    queue_messages = context.config.orders.queue_messages
    server = LinkServer(make_server_socket(endpoints, queue_messages, keys), settings, greeter.greet)
    context.log.info("port is open", link=link, endpoints=endpoints)
    return server
