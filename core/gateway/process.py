"""Entry of the gateway process: open the journal and the ports, then turn until the process is stopped."""

from __future__ import annotations

import gc
import selectors
import time
import uuid

from ...shm import host
from ..errors import GatewayError
from ..kill_file import kill_file_path
from ..messages import Role
from ..process import EXIT_CLEAN, ProcessContext
from ..transport import (
    ADAPTER_LINK,
    NEXUS_LINK,
    KeyFolder,
    KeyRing,
    LinkServer,
    LinkTiming,
    Listener,
    ListenerSettings,
    ServerSettings,
    check_host,
    server_endpoints,
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
    keys = KeyFolder(config.keys_path, config.platforms, lambda text: log.warning("keys", reason=text))
    ring = KeyRing(config.keys_path, lambda text: log.warning("allowed keys", reason=text))
    ring.reload()
    check_host(config.orders.host, ring.proofs, keys.names)
    # The journal before the ports: its lock shows that no other gateway runs on it. Binding first would take the
    # socket file away from a gateway that does.
    journaled = _read_journal(context, counters)
    if journaled is None:
        return EXIT_CLEAN
    archiving = JournalArchiving(journaled.journal, config.orders.keep_days, config.disk.archives_stop_bytes, log)
    boot_id = uuid.uuid4().hex
    ports: list[LinkServer] = []
    try:
        # Before the ports as well: it takes a second, in which hellos would wait in vain.
        markets = Markets(config, context.run_folder, log)
        kills = KillInstructions(kill_file_path(context.run_folder), log)
        greeter = Greeter(config, journaled, kills, boot_id)
        _open_ports(context, ports, greeter, boot_id, keys, ring)
        contracts = LiveContracts(config, context.run_folder, markets, log)
        gateway = Gateway(context, Clock(), journaled, markets, contracts, Ports(*ports), kills, counters, boot_id)
        gateway.start()
        log.info("gateway is up", boot_id=boot_id, stage=journaled.engine.state.stage)
        _run(context, gateway, journaled, archiving, PortFiles(keys, [port.listener for port in ports], log))
    finally:
        # Positions and working orders stay as they are: they live at the platforms.
        for server in ports:
            server.close()
        archiving.close()
        journaled.close()
    return EXIT_CLEAN


def _read_journal(context: ProcessContext, counters: GatewayCounters) -> JournaledEngine | None:
    """Open the journal and rebuild the engine; None when the process was asked to stop meanwhile."""

    def show_recovery(share: float) -> None:
        counters.show_recovery(share)
        context.beat()
        if context.stopping:
            raise _StoppedError

    counters.show_recovery(0.0)  # before the first heartbeat: from that on the launcher looks at the phase
    try:
        journaled = JournaledEngine.open(context.config, context.log, show_recovery)
    except _StoppedError:
        context.log.info("stopped while the journal was read; the next start goes on behind the last checkpoint")
        return None
    # What was loaded stays for long and has no cycles: to walk it at each full collection would take a turn 60 ms.
    gc.collect()
    gc.freeze()
    counters.end_recovery()
    return journaled


def _open_ports(
    context: ProcessContext,
    ports: list[LinkServer],
    greeter: Greeter,
    boot_id: str,
    keys: KeyFolder,
    ring: KeyRing,
) -> None:
    """Append the ports of the adapters and of NEXUS to `ports`, for the caller to close."""
    orders = context.config.orders
    timing = LinkTiming(heartbeat_ms=orders.heartbeat_ms, mute_after_ms=orders.mute_after_ms)
    # Proven connections without a session are those of peers that are coming or going.
    most = min(2 * orders.max_peers, host.MAX_WAITED_SOCKETS // 2 - 2 * ListenerSettings().max_unproven)
    bounds = ListenerSettings(queue_messages=orders.queue_messages, max_connections=most)
    selector = selectors.DefaultSelector()
    for link, port, roles in (
        (ADAPTER_LINK, orders.adapter_port, (Role.ADAPTER,)),
        (NEXUS_LINK, orders.nexus_port, (Role.NEXUS, Role.ADMIN)),
    ):
        settings = ServerSettings(
            sender="gateway", boot_id=boot_id, roles=roles, timing=timing, max_peers=orders.max_peers
        )
        endpoints = server_endpoints(context.run_folder, link, orders.host, port)

        def warn(text: str, link: str = link) -> None:
            context.log.warning("port", link=link, reason=text)

        listener = Listener(endpoints, keys.own, ring, bounds, selector=selector, warn=warn)
        ports.append(LinkServer(listener, settings, greeter.greet))
        context.log.info("port is open", link=link, endpoints=list(listener.doors.endpoints))


def _run(
    context: ProcessContext,
    gateway: Gateway,
    journaled: JournaledEngine,
    archiving: JournalArchiving,
    files: PortFiles,
) -> None:
    """Turn until the process is asked to stop, and leave a checkpoint."""
    clock = Clock()
    disk = DiskGuard(journaled.journal.room, context.config.disk.entries_stop_bytes, context.log)
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
