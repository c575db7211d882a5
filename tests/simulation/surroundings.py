"""What a gateway process has around it, as far as the simulation has no interest in it: log, counters, kill file."""

from __future__ import annotations

from types import SimpleNamespace

from nexus_gateway.core import messages as m


def _nothing(*_: object, **__: object) -> None:
    pass


def make_log() -> SimpleNamespace:
    return SimpleNamespace(info=_nothing, warning=_nothing, error=_nothing, exception=_nothing)


def make_kill_file() -> SimpleNamespace:
    """One without an instruction."""
    return SimpleNamespace(
        level=m.KillLevel.NORMAL,
        pending=lambda find_state: iter(()),
        level_of=lambda platform: m.KillLevel.NORMAL,
        note_resume=_nothing,
        remove_resumed=_nothing,
    )


def make_counters(counts: dict[str, int]) -> SimpleNamespace:
    """`counts`: filled with what the gateway adds to its counters."""

    def add(name: str, amount: int = 1) -> None:
        counts[name] = counts.get(name, 0) + amount

    return SimpleNamespace(add=add, reject=_nothing, observe=_nothing, set_kill_file=_nothing, publish=_nothing)
