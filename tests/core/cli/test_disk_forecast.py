"""How full the disks are and when they will be: measured from what is there, and said in words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from nexus_gateway.core.cli.disk_forecast import DiskStatus, DiskUse, describe_disk, measure_disks
from nexus_gateway.core.cli.status_view import _render_disks
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, RecorderConfig
from nexus_gateway.core.engine import AdminAsked, ClockTicked
from nexus_gateway.core.journal import Journal
from nexus_gateway.core.journal.retention import archive_due, archive_folder
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.messages import Kill, KillLevel
from nexus_gateway.shm.recording.file import Follows, RecordingHeader
from nexus_gateway.shm.recording.writer import RecordingFileWriter
from nexus_gateway.shm.tick import Platform
from rich.console import Console

from tests.support.operator_commands import run
from tests.support.recordings import numbered_ticks
from tests.support.trading_floor import Floor

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
EVENT = AdminAsked(request=Kill(request_id=0, level=KillLevel.NO_NEW, reason="x" * 400, by="test"), peer="p")


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    for name in ("run", "logs", "ticks", "journal"):
        (tmp_path / name).mkdir()
    return GatewayConfig(
        run_folder=str(tmp_path / "run"),
        log_folder=str(tmp_path / "logs"),
        recorder=RecorderConfig(enabled=True, folder=str(tmp_path / "ticks")),
        orders=OrdersConfig(journal=str(tmp_path / "journal" / "orders.sqlite")),
    )


def write_journal(config: GatewayConfig, now_ns: int, hours: float, events: int) -> int:
    """Events evenly over the last hours; returns the bytes of their payloads."""
    with Journal(config.journal_path, "process") as journal:
        for number in range(events):
            journal.append(EVENT, now_ns - int(hours * HOUR_NS * (1 - number / (events - 1))))
        journal.commit()
    return events * len(encode_event(EVENT))


def use_of(config: GatewayConfig, what: str, now_ns: int) -> DiskUse:
    return next(use for disk in measure_disks(config, now_ns) for use in disk.uses if use.what == what)


@pytest.mark.parametrize("hours", [2, 12, 24, 240])
def test_the_rate_of_the_journal_is_that_of_its_rows_of_the_last_day(config: GatewayConfig, hours: float) -> None:
    now_ns = time.time_ns()
    payload = write_journal(config, now_ns, hours, 5_000)
    found = use_of(config, "journal", now_ns).bytes_a_day
    assert found is not None
    expected = payload / hours * 24
    assert expected <= found <= 1.2 * expected + 1000
    assert use_of(config, "journal", now_ns).bytes >= payload


def test_too_little_says_nothing(config: GatewayConfig) -> None:
    now_ns = time.time_ns()
    assert use_of(config, "journal", now_ns).bytes_a_day is None
    write_journal(config, now_ns, 0.9, 100)
    assert use_of(config, "journal", now_ns).bytes_a_day is None
    assert measure_disks(config, now_ns)[0].full_ns is None


def test_a_journal_whose_old_events_leave_grows_by_its_archives_alone(config: GatewayConfig) -> None:
    now_ns = time.time_ns()
    write_journal(config, now_ns, 30 * 24, 500)
    assert use_of(config, "journal", now_ns).bytes_a_day == 0
    folder = Path(f"{config.journal_path}.archive")
    folder.mkdir()
    (folder / "000000000001-000000000002.zip").write_bytes(bytes(12_345))
    old = folder / "000000000000-000000000000.zip"
    old.write_bytes(bytes(99_999))
    os.utime(old, ns=(0, 0))
    assert use_of(config, "journal", now_ns).bytes_a_day == 12_345


@pytest.mark.parametrize(("keep_days", "days"), [(10, 20), (29, 1)])
def test_archives_that_hold_many_days_count_as_many_days(config: GatewayConfig, keep_days: int, days: int) -> None:
    """A smaller `keep_days` archives the days in between at once: that is no growth of every day."""
    now_ns = time.time_ns()
    write_journal(config, now_ns, 30 * 24, 3_000)
    with Journal(config.journal_path, "process") as journal:
        journal.append(EVENT, now_ns)
        journal.commit()
        journal.checkpoint(b"state", now_ns)
    sizes = [
        os.path.getsize(archive_folder(config.journal_path) / entry.name)
        for entry in archive_due(config.journal_path, keep_days, now_ns)
    ]
    settings = msgspec.structs.replace(config.orders, keep_days=keep_days)
    chosen = msgspec.structs.replace(config, orders=settings)
    assert use_of(chosen, "journal", now_ns).bytes_a_day == pytest.approx(sum(sizes) / days, rel=0.05)


def test_without_archives_the_journal_itself_grows(config: GatewayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = time.time_ns()
    write_journal(config, now_ns, 30 * 24, 3_000)
    assert use_of(config, "journal", now_ns).bytes_a_day == 0
    never = msgspec.structs.replace(config, orders=msgspec.structs.replace(config.orders, keep_days=None))
    grown = use_of(never, "journal", now_ns).bytes_a_day
    assert grown
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=191 << 20))
    assert use_of(config, "journal", now_ns).bytes_a_day == grown, "archives have stopped"


def test_what_cannot_be_read_is_not_measured_and_the_rest_is(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat, gone = os.stat, str(config.recorder.path)

    def refuse(path: object, **options: bool) -> os.stat_result:
        if str(path).startswith(gone):
            raise OSError(107, "Transport endpoint is not connected", str(path))
        return stat(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: os.stat(path) and SimpleNamespace(free=1 << 40))
    disks = {disk.path: disk for disk in measure_disks(config, time.time_ns())}
    lost = disks.pop(gone)
    assert (lost.free_bytes, lost.full_ns, lost.stopped) == (None, None, [])
    assert [(use.what, use.bytes) for use in lost.uses] == [("recordings", None)]
    assert "not measured" in describe_disk(lost)
    assert "not connected" in describe_disk(lost)
    (rest,) = disks.values()
    assert [use.what for use in rest.uses] == ["journal", "logs", "run folder"]
    assert describe_disk(rest) == ""
    console = Console(width=200, record=True)
    console.print(_render_disks([lost, rest]))
    assert "recordings not measured" in console.export_text()


def test_a_journal_behind_a_link_counts_on_the_disk_of_its_file(config: GatewayConfig, tmp_path: Path) -> None:
    real = tmp_path / "data" / "orders.sqlite"
    real.parent.mkdir()
    config.journal_path.symlink_to(real)
    now_ns = time.time_ns()
    write_journal(config, now_ns, 24, 3_000)
    folder = real.with_name("orders.sqlite.archive")
    folder.mkdir()
    (folder / "000000000001-000000000002.zip").write_bytes(bytes(50_000_000))
    use = use_of(config, "journal", now_ns)
    assert use.path == str(real)
    assert use.bytes > 50_000_000


def write_recording(config: GatewayConfig, number: int, created_ns: int, ticks: int) -> Path:
    folder = config.recorder.path / "sim"
    folder.mkdir(exist_ok=True)
    first = number * 10_000 + 1
    header = RecordingHeader(number, created_ns, "sim", Platform.SIM, 1, first, 0, Follows.NOTHING)
    writer = RecordingFileWriter(folder, header, [])
    writer.append(numbered_ticks(first, ticks))
    writer.close()
    return writer.path


def test_the_rate_of_the_recordings_is_that_of_the_files_of_the_last_day(config: GatewayConfig) -> None:
    now_ns = time.time_ns()
    old = write_recording(config, 1, now_ns - 3 * DAY_NS, 9_000)
    os.utime(old, ns=(now_ns - 2 * DAY_NS,) * 2)
    os.utime(old.with_suffix(".nxindex"), ns=(now_ns - 2 * DAY_NS,) * 2)
    os.utime(old.with_suffix(".nxsymbols"), ns=(now_ns - 2 * DAY_NS,) * 2)
    assert use_of(config, "recordings", now_ns).bytes_a_day == 0, "none is recorded now"
    young = [write_recording(config, number, now_ns - (7 - number) * HOUR_NS, 5_000) for number in (2, 3)]
    size = sum(path.with_suffix(s).stat().st_size for path in young for s in (".nxticks", ".nxindex", ".nxsymbols"))
    use = use_of(config, "recordings", now_ns)
    assert use.bytes_a_day == pytest.approx(size * 24 / 5, rel=0.01)
    for limits in ({"keep_bytes": 1 << 20}, {"keep_days": 1}):
        limited = msgspec.structs.replace(config, recorder=msgspec.structs.replace(config.recorder, **limits))
        assert use_of(limited, "recordings", now_ns).bytes_a_day == 0, "as much goes as comes"


def test_the_day_on_which_the_disk_is_full_is_named_within_a_week(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = time.time_ns()
    write_journal(config, now_ns, 24, 5_000)
    a_day = use_of(config, "journal", now_ns).bytes_a_day
    assert a_day is not None
    for days, soon in ((3, True), (6.9, True), (8, False), (400, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=int(a_day * days): SimpleNamespace(free=free))
        (disk,) = measure_disks(config, now_ns)
        assert disk.full_ns == pytest.approx(now_ns + days * DAY_NS, abs=HOUR_NS)
        assert disk.is_full_soon is soon
        assert ("at this rate" in describe_disk(disk)) is soon


def test_what_stops_is_named_in_the_order_of_what_is_least_needed(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = ["recordings", "archives of the journal", "log lines below a warning", "entries", "checkpoints"]
    for free_mib, count in ((300, 0), (200, 1), (150, 2), (100, 3), (80, 4), (10, 5), (0, 5)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free_mib << 20: SimpleNamespace(free=free))
        (disk,) = measure_disks(config, time.time_ns())
        assert disk.stopped == order[:count]
        text = describe_disk(disk)
        assert all(what in text for what in disk.stopped)
        assert bool(text) == bool(count)


def test_status_shows_the_disks_of_the_running_gateway(tmp_path: Path) -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        floor.write_config()
        answer = run(floor, "status", "--json")
        disks = msgspec.convert(answer.json["disks"], list[DiskStatus])
        assert {use.what for disk in disks for use in disk.uses} == {"journal", "recordings", "logs", "run folder"}
        journal = next(use for disk in disks for use in disk.uses if use.what == "journal")
        assert journal.path == str(floor.root / "orders.sqlite")
        assert journal.bytes >= (floor.root / "orders.sqlite").stat().st_size > 0
        assert all(disk.free_bytes > 0 for disk in disks)
        text = run(floor, "status").out
        assert "used for" in text
        assert "journal" in text
    finally:
        floor.close()


def test_the_forecast_loads_no_compiler() -> None:
    code = "import sys, nexus_gateway.core.cli.disk_forecast; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_few_and_small_events_are_measured_too(config: GatewayConfig) -> None:
    now_ns = time.time_ns()
    with Journal(config.journal_path, "process") as journal:
        for hour in range(10):
            journal.append(ClockTicked(), now_ns - (9 - hour) * HOUR_NS)
        journal.commit()
    assert use_of(config, "journal", now_ns).bytes_a_day
