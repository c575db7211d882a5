"""The demo's account for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .demo import DemoResult


def print_demo(result: DemoResult) -> None:
    """The account at the end of a demo."""
    console = Console()
    table = Table(title="demo", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, figures in result.platforms.items():
        table.add_row(f"{name}: ticks", f"{figures['ticks_published']:,}")
    latency = ", ".join(
        f"{key} {'-' if value is None else f'{value:,.1f}'}" for key, value in result.tick_to_nexus_us.items()
    )
    for label, text in (
        ("symbols", str(len(result.symbols))),
        ("published", f"{result.ticks_published:,}"),
        ("read by NEXUS", f"{result.ticks_read:,}"),
        ("lost", f"{result.ticks_lost:,}"),
        ("tick to NEXUS, us", latency),
        ("restarts", str(result.restarts)),
        ("seconds", f"{result.seconds:.1f}"),
    ):
        table.add_row(label, text)
    console.print(table)
    if not result.is_complete:
        console.print("[red]published is not read plus lost: some ticks are not accounted for[/red]")
