"""The demo's summary as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .demo import DemoResult


def print_demo(result: DemoResult) -> None:
    """Print the summary of a demo."""
    console = Console()
    table = Table(title="demo", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, figures in result.platforms.items():
        table.add_row(f"{name}: ticks", f"{figures['ticks_published']:,}")
    latency = ", ".join(
        f"{key} {'-' if value is None else f'{value:,.1f}'}" for key, value in result.tick_to_nexus_us.items()
    )
    fill_latency = ", ".join(
        f"{key} {'-' if value is None else f'{value:,.2f}'}" for key, value in result.tick_to_fill_ms.items()
    )
    orders = (
        ("signals, legs, fills", f"{result.signals}, {result.legs}, {result.fills}"),
        ("rejects", ", ".join(f"{code} {count}" for code, count in result.rejects.items()) or "none"),
        ("unknown outcomes", str(result.unknown)),
        ("held at the end, lots", _pairs(result.residual) or "none"),
        ("average price", ", ".join(f"{name} {_pairs(sides)}" for name, sides in result.avg_price.items()) or "-"),
        ("tick to fill, ms", fill_latency),
    )
    for label, text in (
        ("symbols", str(len(result.symbols))),
        ("published", f"{result.ticks_published:,}"),
        ("read by NEXUS", f"{result.ticks_read:,}"),
        ("lost", f"{result.ticks_lost:,}"),
        ("tick to NEXUS, us", latency),
        *(orders if result.signals else ()),
        ("restarts", str(result.restarts)),
        ("seconds", f"{result.seconds:.1f}"),
    ):
        table.add_row(label, text)
    console.print(table)
    if not result.is_complete:
        console.print("[red]published is not read plus lost: some ticks are not accounted for[/red]")


def _pairs(figures: dict[str, str]) -> str:
    return ", ".join(f"{name} {figure}" for name, figure in figures.items())
