"""Snapshots as tables for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .snapshot import LatencyStatus, ProcessStatus, RingStatus, Snapshot

_STALE_AFTER_S = 2.0


def render_snapshot(snapshot: Snapshot, title: str = "") -> RenderableType:
    """Platforms, latencies and processes, one below the other; never wider than it must be."""
    parts: list[RenderableType] = []
    if title:
        parts.append(Text(title, style="bold"))
    parts.append(_render_rings(snapshot.rings))
    latencies = [
        (f"{process.name}: {name.removesuffix('_ns')}", latency)
        for process in snapshot.processes
        for name, latency in process.latencies.items()
        if latency.count
    ]
    if latencies:
        parts.append(_render_latencies(latencies))
    parts.append(_render_processes(snapshot.processes))
    return Group(*parts)


def _render_rings(rings: list[RingStatus]) -> Table:
    table = Table(title="market data", title_justify="left", expand=False)
    for heading in ("platform", "link", "ticks", "ticks/s", "age", "gaps", "readers", "laps lost"):
        table.add_column(heading, justify="left" if heading in ("platform", "link", "readers") else "right")
    for ring in rings:
        readers = ", ".join(f"{reader.name} -{reader.lag}" for reader in ring.readers) or "none"
        table.add_row(
            ring.name,
            _link_word(ring),
            f"{ring.published:,}",
            "" if ring.rate_per_s is None else f"{ring.rate_per_s:,.0f}",
            _age_text(ring.age_s),
            str(ring.gaps),
            readers,
            f"{sum(reader.lost for reader in ring.readers):,}",
        )
    return table


def _link_word(ring: RingStatus) -> Text:
    """A word as well as a colour: not everybody sees the colour."""
    if ring.state != "live":
        return Text(ring.state, style="red")
    if ring.heartbeat_age_s > _STALE_AFTER_S:
        return Text("hangs", style="red")
    return Text("up", style="green") if ring.link_up else Text("down", style="yellow")


def _render_latencies(rows: list[tuple[str, LatencyStatus]]) -> Table:
    table = Table(title="latency, us", title_justify="left", expand=False)
    table.add_column("what")
    for heading in ("count", "p50", "p99", "p99.9", "max"):
        table.add_column(heading, justify="right")
    for what, latency in rows:
        figures = (latency.p50, latency.p99, latency.p999, latency.max)
        table.add_row(what, f"{latency.count:,}", *("" if figure is None else f"{figure:,.1f}" for figure in figures))
    return table


def _render_processes(processes: list[ProcessStatus]) -> Table:
    table = Table(title="processes", title_justify="left", expand=False)
    for heading in ("process", "pid", "state", "starts", "last beat"):
        table.add_column(heading, justify="left" if heading in ("process", "state") else "right")
    for process in processes:
        style = "green" if process.state == "live" else "red"
        table.add_row(
            process.name,
            str(process.pid),
            Text(process.state, style=style),
            str(process.starts),
            _age_text(process.heartbeat_age_s),
        )
    return table


def _age_text(age_s: float | None) -> str:
    if age_s is None:
        return "never"
    if age_s < 1:
        return f"{age_s * 1000:.0f} ms"
    return f"{age_s:.1f} s" if age_s < 120 else f"{age_s / 60:.0f} min"
