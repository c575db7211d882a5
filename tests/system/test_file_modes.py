"""Every file that the product makes is this user's alone from its first byte, whatever the umask."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.segment import SegmentError

from tests.support.commands import command, environment, wait_until
from tests.support.patience import patient
from tests.support.shm_processes import linux_only

pytestmark = [pytest.mark.processes, linux_only]


class Place:
    """A home with folders that the user has made himself, readable by all."""

    def __init__(self, root: Path, umask: int) -> None:
        self.root, self.umask = root, umask
        self.made = [root / name for name in ("config", "logs", "journal", "ticks", "out")]
        for folder in self.made:
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
        self.run_folder = root / "run"
        (root / "config" / "gateway_config.yaml").write_text(
            f"run_folder: {self.run_folder}\nlog_folder: {root / 'logs'}\n"
            f"orders: {{adapter_port: 0, nexus_port: 0, journal: '{root / 'journal' / 'orders.sqlite'}'}}\n"
            f"recorder: {{enabled: true, folder: '{root / 'ticks'}'}}\n"
            "symbols:\n  - {name: NQ, tick_size: '0.25'}\n"
        )
        (root / "config" / "platform_configs.yaml").write_text(
            "nt8:\n  adapter: nexus_gateway.adapters.simulator:SimulatorAdapter\n  symbols: [NQ]\n"
            "  settings: {ticks_per_s: 500, orders: paper}\n"
        )
        self.given = set(root.rglob("*"))

    def start(self, *words: object) -> subprocess.Popen[str]:
        options: dict[str, Any] = {"env": environment(self.root / "home"), "umask": self.umask, "text": True}
        return subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def run(self, *words: object) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=patient(120))
        assert process.returncode == 0, (words, out, err)
        return out + err

    def loose(self) -> list[str]:
        """Files that others may reach, of those that the product has made."""
        kernels = self.root / "home"
        found = []
        for path in self.root.rglob("*"):
            if path in self.given or path == kernels or path.is_symlink():
                continue
            if path.lstat().st_mode & 0o077:
                found.append(f"{path.relative_to(self.root)} {oct(path.lstat().st_mode & 0o777)}")
        return found


def is_trading(folder: Path, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    try:
        return CountersPage.attach(folder, "gateway").values()["routes_ready"] == 1
    except SegmentError:
        return False


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_of_every_file(tmp_path: Path, umask: int) -> None:
    place = Place(tmp_path, umask)
    config = ("-c", tmp_path / "config")
    gateway = place.start("run", *config)
    try:
        wait_until(lambda: is_trading(place.run_folder, gateway), what="a linked platform")
        wait_until(lambda: any((tmp_path / "ticks").rglob("*.nxticks")), what="a recording")
        assert place.loose() == []
        place.run("journal", "backup", tmp_path / "out" / "copy.sqlite", *config)
        place.run("journal", "export", "-o", tmp_path / "out" / "export.jsonl", *config)
        assert place.loose() == []
    finally:
        gateway.send_signal(signal.SIGTERM)
        _, err = gateway.communicate(timeout=patient(60))
    for folder, holds in (("journal", "journal"), ("logs", "logs"), ("ticks", "recordings")):
        cure = f"folder {tmp_path / folder} has mode 0o755, allowed is 0o700; run: chmod 700 {tmp_path / folder}"
        assert any(f"holds={holds}" in line and cure in line for line in err.splitlines()), err
    said = place.run("journal", "restore", tmp_path / "out" / "copy.sqlite", *config)
    assert "warning: other users may reach the journal" in said
    assert place.loose() == []
    assert os.path.exists(tmp_path / "journal" / "orders.sqlite.old")
