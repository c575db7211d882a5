"""Levels of free space: what is needed less stops first."""

from __future__ import annotations

import pytest
from nexus_gateway.core.config import DiskConfig


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ({"recorder_stops_bytes": 1 << 20}, "recorder_stops_bytes"),
        ({"archives_stop_bytes": 0, "logs_stop_bytes": 300 << 20}, "recorder_stops_bytes"),
        (
            {
                "archives_stop_bytes": 0,
                "logs_stop_bytes": 0,
                "entries_stop_bytes": 0,
                "checkpoints_stop_bytes": 1 << 40,
            },
            "recorder_stops_bytes",
        ),
    ],
)
def test_what_is_needed_less_stops_first_whatever_is_off_in_between(levels: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named} was .* must be at least .*needed less stops first"):
        DiskConfig(**levels)


def test_levels_that_are_off_or_equal_are_in_order() -> None:
    DiskConfig(recorder_stops_bytes=0, archives_stop_bytes=0, logs_stop_bytes=0)
    DiskConfig(recorder_stops_bytes=192 << 20, archives_stop_bytes=192 << 20)
    DiskConfig(entries_stop_bytes=0, checkpoints_stop_bytes=0)
