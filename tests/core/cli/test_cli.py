"""The command line as a user meets it: real processes, exit codes, one JSON object on stdout."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import psutil
import pytest
from nexus_gateway.adapters.replay.adapter import ReplayAdapter
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.recording.reader import open_recorded
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter, empty_ticks

from tests.support.commands import (
    REAL_DATA,
    REPOSITORY,
    environment,
    one_json_object,
    run_command,
    start_command,
    stop_command,
    wait_until,
)
from tests.support.feeds import close_feed, make_replay_feed, make_symbols
from tests.support.patience import patient

CME = sorted((REAL_DATA / "cme-trades-2019-12-16").glob("*.csv.gz"))


def small_config(folder: Path, run_folder: Path, ticks_per_s: float = 500.0) -> Path:
    folder.mkdir()
    (folder / "gateway_config.yaml").write_text(
        f"run_folder: {run_folder}\nlog_folder: {folder / 'logs'}\nring_capacity: 65536\n"
        "orders: {adapter_port: 0, nexus_port: 0}\n"  # the default ports may be in use
        "symbols:\n  - {name: NQ, tick_size: '0.25'}\n  - {name: ES, tick_size: '0.25'}\n"
    )
    (folder / "platform_configs.yaml").write_text(
        "nt8:\n  adapter: nexus_gateway.adapters.simulator:SimulatorAdapter\n  symbols: [NQ, ES]\n"
        f"  settings: {{ticks_per_s: {ticks_per_s}}}\n"
    )
    return folder


def test_demo_simulates_six_platforms_and_accounts_for_every_tick(tmp_path):
    ran = run_command(tmp_path, "demo", "--seconds", 3, "--run-folder", tmp_path / "run", "--json")
    assert ran.returncode == 0, ran.stderr
    result = one_json_object(ran.stdout)
    assert sorted(result["platforms"]) == ["bookmap", "mt5", "mt5_br", "nt8", "quantower", "sierra"]
    assert len(result["symbols"]) >= 50
    assert result["ticks_published"] == result["ticks_read"] + result["ticks_lost"] > 1000
    assert result["ticks_published"] == sum(each["ticks_published"] for each in result["platforms"].values())
    assert sum(row["ticks"] for row in result["symbols"].values()) == result["ticks_read"]
    latency = result["tick_to_nexus_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert result["seconds"] >= 3
    # One signal, six legs: one platform refuses it, one fills it in part.
    assert (result["signals"], result["legs"], result["fills"], result["unknown"]) == (1, 6, 5, 0)
    assert result["rejects"] == {"platform_rejected": 1}
    assert Decimal(result["residual"]["MNQ"]) == 9
    assert Decimal(result["avg_price"]["MNQ"]["buy"]) > 0
    assert 0 < result["tick_to_fill_ms"]["p50"] <= result["tick_to_fill_ms"]["max"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["launcher.lock"]


def test_demo_in_a_users_folder_removes_only_its_own(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    (folder / "thesis.txt").write_text("years of work")
    ran = run_command(tmp_path, "demo", "--seconds", 0.5, "--run-folder", folder, "--json")
    assert ran.returncode == 0, ran.stderr
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert not list(folder.glob("*.ticks"))


@pytest.mark.skipif(not CME, reason="../shared/data/cme-trades-2019-12-16 is absent")
def test_a_real_session_at_full_speed_arrives_whole(tmp_path):
    ran = run_command(tmp_path, "demo", "--replay", *CME, "--speed", "max", "--json", "--run-folder", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
    result = one_json_object(ran.stdout)
    assert result["ticks_published"] == result["ticks_read"] == 990_446
    assert result["ticks_lost"] == 0
    for path in CME:
        # Counted by plain text reading, apart from our decoders.
        with gzip.open(path, "rt") as file:
            rows = [line.rstrip("\n").split(",") for line in file][1:]
        row = result["symbols"][path.name[:2]]
        assert row["trades"] == len(rows)
        assert row["size_sum"] == sum(int(size) for _, _, size in rows)
        assert Decimal(row["price_sum"]) == sum(Decimal(price) for _, price, _ in rows)


def test_replay_options_are_checked_before_anything_starts(tmp_path):
    missing = run_command(tmp_path, "demo", "--replay", tmp_path / "NQH0.csv.gz", "--json")
    assert missing.returncode == 2
    assert "NQH0.csv.gz" in missing.stderr
    assert missing.stdout == ""
    odd = run_command(tmp_path, "demo", "--replay", tmp_path / "NQH0.csv.gz", "--speed", "fast")
    assert odd.returncode == 2
    assert "'fast'" in odd.stderr
    stray = run_command(tmp_path, "demo", tmp_path / "NQH0.csv.gz")
    assert stray.returncode == 2
    assert "--replay" in stray.stderr


def test_a_broken_recording_ends_the_demo_and_names_the_line(tmp_path):
    path = tmp_path / "NQH0.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("epoch_ms,price,size\n1576500000000,8000,1\n1576500000001,8000.25\n")
    ran = run_command(tmp_path, "demo", "--replay", path, "--speed", "max", "--json", "--run-folder", tmp_path / "run")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "line 3" in ran.stderr


def test_run_status_record_and_the_example_together(tmp_path):
    config = small_config(tmp_path / "config", tmp_path / "run")
    gateway = start_command(tmp_path, "run", "-c", config)
    try:

        def healthy() -> bool:
            ran = run_command(tmp_path, "status", "-c", config, "--json")
            return ran.returncode == 0 and one_json_object(ran.stdout)["rings"][0]["published"] > 0

        wait_until(healthy, what="run is healthy")
        second = run_command(tmp_path, "run", "-c", config)
        assert second.returncode == 4
        assert str(gateway.pid) in second.stderr

        recorded = run_command(
            tmp_path, "record", "-c", config, "--folder", tmp_path / "ticks", "--seconds", 1.5, "--json"
        )
        assert recorded.returncode == 0, recorded.stderr
        counts = one_json_object(recorded.stdout)
        assert counts["ticks_recorded"] > 100
        assert counts["ticks_lost"] == 0
        assert list((tmp_path / "ticks").rglob("*")) != []

        example = subprocess.run(
            [sys.executable, str(REPOSITORY / "nexus_link" / "nexus_ai.py"), "--gateway", "--seconds", "2.5",
             "--run-folder", str(tmp_path / "run")],
            env=environment(tmp_path), capture_output=True, text=True, timeout=patient(120), check=False,
        )  # fmt: skip
        assert example.returncode == 0, example.stderr
        assert "NQ" in example.stdout
        assert "lost 0" in example.stdout

        status = run_command(tmp_path, "status", "-c", config, "--json")
        snapshot = one_json_object(status.stdout)
        ring = snapshot["rings"][0]
        assert (ring["name"], ring["platform"], ring["state"], ring["link_up"]) == ("nt8", "nt8", "live", True)
        assert ring["rate_per_s"] > 0
        assert ring["age_s"] < 60
        text = run_command(tmp_path, "status", "-c", config)
        assert "nt8" in text.stdout
        assert text.returncode == 0  # readers that came and went are no fault
    finally:
        code, _, errors = stop_command(gateway)
    assert code == 0, errors
    # The example and the recorder have closed as well: everything is shown as closed, nothing as live.
    after = run_command(tmp_path, "status", "-c", config, "--json")
    assert after.returncode == 3
    assert run_command(tmp_path, "record", "-c", config, "--folder", tmp_path / "none").returncode == 3
    assert {ring["state"] for ring in one_json_object(after.stdout)["rings"]} == {"closed"}


def test_status_tells_a_killed_writer_from_a_live_one(tmp_path):
    config = small_config(tmp_path / "config", tmp_path / "run")
    gateway = start_command(tmp_path, "run", "-c", config)
    try:
        wait_until(lambda: run_command(tmp_path, "status", "-c", config).returncode == 0, what="run is healthy")
        children = psutil.Process(gateway.pid).children(recursive=True)
        gateway.kill()
        for child in children:
            child.kill()
        gateway.communicate()
        psutil.wait_procs(children, timeout=patient(30))
        dead = run_command(tmp_path, "status", "-c", config, "--json")
        assert dead.returncode == 1
        assert one_json_object(dead.stdout)["rings"][0]["state"] == "dead writer"
    finally:
        gateway.kill()


def test_no_gateway_is_exit_code_3(tmp_path):
    for arguments in (["status"], ["status", "--json"], ["record", "--seconds", "1"]):
        ran = run_command(tmp_path, *arguments, "--run-folder", tmp_path / "nowhere")
        assert ran.returncode == 3, (arguments, ran.stderr)
        assert "nexus-gateway run" in ran.stderr
        assert ran.stdout == ""


def test_a_wrong_configuration_is_exit_code_2_and_names_the_key(tmp_path):
    config = small_config(tmp_path / "config", tmp_path / "run")
    (config / "gateway_config.yaml").write_text("ring_capacity: 1000\n")
    ran = run_command(tmp_path, "run", "-c", config)
    assert ran.returncode == 2
    assert "ring_capacity was 1000" in ran.stderr
    assert "1024" in ran.stderr


def test_version(tmp_path):
    assert set(one_json_object(run_command(tmp_path, "version", "--json").stdout)) >= {
        "nexus-gateway",
        "numba",
        "python",
    }
    assert "nexus-gateway" in run_command(tmp_path, "version").stdout


def test_status_reads_counters_without_numba(tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from nexus_gateway.core.cli.app import app; "
        f"CliRunner().invoke(app, ['status', '--json', '--run-folder', {str(tmp_path)!r}]); "
        "print([name for name in sys.modules if name.split('.')[0] in ('numba', 'llvmlite', 'zmq')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=patient(60))
    assert ran.stdout.strip() == "[]"


def test_a_reading_process_stays_light(run_dir):
    """The weight that an owner's NEXUS takes on: below 150 MB with six rings attached and a kernel of its own."""
    writers = [TickWriter(run_dir, platform.key, platform) for platform in Platform if 1 <= platform <= 6]
    for writer in writers:
        writer.publish(empty_ticks(1000))
    code = f"""
from pathlib import Path
import psutil
from nexus_gateway.nexus_link.example import features
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.shm.writer import empty_ticks
view = MarketView(Path({str(run_dir)!r}), start="oldest")
out = empty_ticks(4096)
total = view.run(features.update_features, features.make_features(), 2000)
while got := view.drain(out):
    total += got
print(total, psutil.Process().memory_info().rss)
"""
    for _ in range(2):  # the first one may have to compile
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=patient(120)
        )
    total, rss_bytes = map(int, ran.stdout.split())
    for writer in writers:
        writer.close()
    assert total == 6000
    assert rss_bytes < 150e6


def test_symbols_of_several_months_are_told_apart(tmp_path):
    archive = REAL_DATA / "comex-gc-2013-10" / "gc_20131007_trade.zip"
    if not archive.exists():
        pytest.skip("../shared/data/comex-gc-2013-10 is absent")
    ran = run_command(
        tmp_path, "demo", "--replay", archive, "--speed", "max", "--json", "--run-folder", tmp_path / "run"
    )
    assert ran.returncode == 0, ran.stderr
    result = one_json_object(ran.stdout)
    assert result["symbols"]["GCZ13"]["trades"] == 39_702
    assert len(result["symbols"]) > 5
    assert result["platforms"]["replay"]["zero_size"] == 147
    assert all(math.isfinite(row["size_sum"]) for row in result["symbols"].values())
    assert Counter(name[:2] for name in result["symbols"]) == {"GC": len(result["symbols"])}


def test_the_demos_folder_is_its_own(tmp_path):
    from nexus_gateway.core.cli.demo import demo_folder
    from nexus_gateway.shm.host import default_run_folder

    assert demo_folder() != default_run_folder()
    assert os.fspath(demo_folder()).endswith("-demo")


def test_a_recording_with_stale_marks_is_accounted_for(tmp_path):
    """The recorder outlives the adapters, so a recording of a whole run ends with their marks."""
    config = small_config(tmp_path / "config", tmp_path / "run")
    with (config / "gateway_config.yaml").open("a") as file:
        file.write(f"recorder: {{enabled: true, folder: {tmp_path / 'ticks'}}}\n")
    gateway = start_command(tmp_path, "run", "-c", config)
    try:
        wait_until(lambda: run_command(tmp_path, "status", "-c", config).returncode == 0, what="run is healthy")
    finally:
        stop_command(gateway)
    ran = run_command(
        tmp_path, "demo", "--replay", tmp_path / "ticks", "--speed", "max", "--json", "--run-folder", tmp_path / "demo"
    )
    assert ran.returncode == 0, ran.stderr
    result = one_json_object(ran.stdout)
    assert result["is_complete"]
    assert result["ticks_published"] == result["ticks_read"] + 2  # NQ and ES


def test_what_is_recorded_is_replayed_bit_for_bit(tmp_path, run_dir):
    """Recorded by the recorder, played by the replay adapter with its times kept: the same bytes but for `seq`."""
    config = small_config(tmp_path / "config", tmp_path / "run")
    gateway = start_command(tmp_path, "run", "-c", config)
    try:
        wait_until(lambda: run_command(tmp_path, "status", "-c", config).returncode == 0, what="run is healthy")
        recorded = run_command(tmp_path, "record", "-c", config, "--folder", tmp_path / "ticks", "--seconds", 1)
        assert recorded.returncode == 0, recorded.stderr
    finally:
        stop_command(gateway)
    (ring,) = open_recorded(tmp_path / "ticks").rings.values()
    original = np.concatenate([ticks for _, ticks in ring.arrays()])
    assert len(original) > 100

    feed = make_replay_feed(run_dir, capacity=1 << 16)
    adapter = ReplayAdapter(feed, {"files": [{"path": str(tmp_path / "ticks")}], "speed": 0, "keep_times": True})
    adapter.connect()
    adapter.subscribe(make_symbols(run_dir, "NQ", "ES"))
    while not feed.counters.values()["replay_finished"]:
        adapter.poll(0.0)
    out = empty_ticks(1 << 16)
    played = out[: TickReader(run_dir, "replay", start="first").drain(out)]
    played = played[played["flags"] != TickFlag.STALE]  # its own marks when it is over
    assert len(played) == len(original)
    played["seq"] = original["seq"]
    assert played.tobytes() == original.tobytes()
    close_feed(feed)


@pytest.mark.parametrize(("fills", "code"), [(0, 1), (5, 0)])
def test_a_demo_whose_signal_traded_nothing_is_no_success(tmp_path, fills, code):
    script = (
        "import sys; from nexus_gateway.core.cli import app, demo\n"
        "result = demo.DemoResult(platforms={}, symbols={}, ticks_published=0, ticks_read=0, ticks_lost=0,\n"
        f"    is_complete=True, tick_to_nexus_us={{}}, seconds=1.0, restarts=0, fills={fills})\n"
        "demo.run_demo = lambda *_, **__: result\n"
        f"sys.argv = ['nexus-gateway', 'demo', '--json', '--run-folder', {str(tmp_path / 'run')!r}]\n"
        "app.main()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True, timeout=patient(60)
    )
    assert (ran.returncode, "traded nothing" in ran.stderr) == (code, code == 1)
    assert one_json_object(ran.stdout)["fills"] == fills
