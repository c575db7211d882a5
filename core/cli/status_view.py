"""Snapshots as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..process import RECOVERING
from .disk_forecast import DiskStatus, day_text, describe_disk
from .monitor import LatencyStatus, OrdersStatus, ProcessStatus, RingStatus, Snapshot


def render_snapshot(snapshot: Snapshot, title: str = "", disks: Sequence[DiskStatus] = ()) -> RenderableType:
    """Tables of platforms, latencies and processes; with six platforms they fit a terminal of 80 x 24.

    Above them the order links, and what waits to be settled. A platform's process has a line of its own only when it is
    not live, is unresponsive or was restarted.
    """
    parts: list[RenderableType] = []
    if title:
        parts.append(Text(title, style="bold"))
    if snapshot.orders is not None:
        if snapshot.orders.has_trouble:
            parts.append(Text(describe_trouble(snapshot.orders), style="bold red"))
        parts.append(Text(describe_order_links(snapshot.orders)))
    parts += [Text(text, style="bold red") for disk in disks if (text := describe_disk(disk))]
    parts.append(_render_rings(snapshot.rings))
    latencies = [
        (f"{process.name}: {name.removesuffix('_ns')}", latency)
        for process in snapshot.processes
        for name, latency in process.latencies.items()
        if latency.count
    ]
    if latencies:
        parts.append(_render_latencies(latencies))
    rings = {ring.name for ring in snapshot.rings}
    shown = [
        process
        for process in snapshot.processes
        if process.name not in rings or process.state != "live" or process.unresponsive or process.starts > 1
    ]
    parts.append(_render_processes(shown))
    if disks:
        parts.append(_render_disks(disks))
    return Group(*parts)


def describe_trouble(orders: OrdersStatus) -> str:
    """Return what waits to be settled, and what to type, in plain words."""
    found = [
        _count(orders.contradictions, "contradiction of a platform", "contradictions of platforms"),
        _count(orders.routes_overdue, "account owes a snapshot", "accounts owe a snapshot"),
        _count(orders.positions_unsettled, "position is not settled", "positions are not settled"),
        _count(
            orders.accounts_left,
            "account out of the configuration still holds lots or orders",
            "accounts out of the configuration still hold lots or orders",
        ),
        "entries are refused while the system has no open file left for the kill file" if orders.entries_barred else "",
        _count(orders.latches, "limit bars entries until `resume`", "limits bar entries until `resume`"),
    ]
    others = (orders.contradictions, orders.routes_overdue, orders.positions_unsettled, orders.accounts_left)
    cure = "type: nexus-gateway orders"
    if not any(others):
        cure = "type: nexus-gateway resume --reason TEXT" if orders.latches else "see the gateway's log"
    since = "" if orders.state == "live" else f" (the gateway's last figures: it is {orders.state})"
    return f"TROUBLE: {', '.join(filter(None, found))}{since}; {cure}"


def _count(number: int, one: str, many: str) -> str:
    return "" if not number else f"{number} {one if number == 1 else many}"


def describe_order_links(orders: OrdersStatus) -> str:
    """Return how many accounts are linked for orders and ready; market data has links of its own."""
    line = f"orders: {orders.linked} of {orders.expected} linked, {orders.ready} ready"
    if orders.state != "live":
        return f"{line} (gateway: {orders.state})"
    if orders.linked < orders.expected and orders.unlinked:
        line += f"; without an order link: {', '.join(orders.unlinked)}"
    if orders.ports_taken:
        line += "; another program has a TCP port of the gateway, see the gateway's log"
    return line


def _make_table(title: str, left: tuple[str, ...], headings: tuple[str, ...]) -> Table:
    """An empty table without a frame; columns named in `left` hold text, the others numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    return table


def _render_rings(rings: list[RingStatus]) -> Table:
    # Not "link": order links are others, and are counted above the tables.
    headings = ("platform", "data link", "ticks", "ticks/s", "age", "gaps", "readers", "lost")
    table = _make_table("market data", ("platform", "data link", "readers"), headings)
    for ring in rings:
        readers = ", ".join(f"{reader.name} -{reader.lag}" for reader in ring.readers) or "none"
        table.add_row(
            ring.name,
            _link_text(ring),
            f"{ring.published:,}",
            "" if ring.rate_per_s is None else f"{ring.rate_per_s:,.0f}",
            _age_text(ring.age_s),
            str(ring.gaps),
            readers,
            f"{sum(reader.lost for reader in ring.readers):,}",
        )
    return table


def _link_text(ring: RingStatus) -> Text:
    """State of the market data link. Text as well as colour: logs and some eyes have no colours."""
    if ring.state != "live":
        return Text(ring.state, style="red")
    if ring.unresponsive:
        return Text("unresponsive", style="red")
    return Text("up", style="green") if ring.link_up else Text("down", style="yellow")


def _render_latencies(rows: list[tuple[str, LatencyStatus]]) -> Table:
    table = _make_table("latency, us", ("path",), ("path", "count", "p50", "p99", "p99.9", "max"))
    for path, latency in rows:
        figures = (latency.p50, latency.p99, latency.p999, latency.max)
        table.add_row(path, f"{latency.count:,}", *("" if figure is None else f"{figure:,.1f}" for figure in figures))
    return table


def _render_processes(processes: list[ProcessStatus]) -> Table:
    table = _make_table("processes", ("process", "state"), ("process", "pid", "state", "starts", "heartbeat"))
    for process in processes:
        state = "unresponsive" if process.state == "live" and process.unresponsive else process.state
        begins = state == "starting" or state.startswith(RECOVERING)
        style = "yellow" if begins else {"live": "green", "closed": ""}.get(state, "red")
        table.add_row(
            process.name,
            str(process.pid),
            Text(state, style=style),
            str(process.starts),
            _age_text(process.heartbeat_age_s),
        )
    return table


def _render_disks(disks: Sequence[DiskStatus]) -> Table:
    table = _make_table("disks", ("disk", "used for"), ("disk", "used for", "free", "a day", "full on"))
    for disk in disks:
        a_day = "not known" if disk.bytes_a_day is None else _bytes_text(disk.bytes_a_day)
        full = "" if disk.full_ns is None else day_text(disk.full_ns)
        uses = ", ".join(f"{use.what} {_bytes_or_unknown(use.bytes)}" for use in disk.uses)
        table.add_row(disk.path, uses, _bytes_or_unknown(disk.free_bytes), a_day, full)
    return table


def _bytes_or_unknown(size: int | None) -> str:
    return "not measured" if size is None else _bytes_text(size)


def _bytes_text(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _age_text(age_s: float | None) -> str:
    if age_s is None:
        return "never"
    if age_s < 1:
        return f"{age_s * 1000:.0f} ms"
    return f"{age_s:.1f} s" if age_s < 120 else f"{age_s / 60:.0f} min"
