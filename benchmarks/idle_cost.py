"""CPU and memory of all processes of `run` while no tick flows: six adapters, the recorder, the launcher.

    python benchmarks/idle_cost.py [SECONDS]

Prints one line a process: CPU in percent of one core, resident memory; and the sum. The aim is below 10 % of one core.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml

PLATFORMS = ("mt5", "mt5_br", "nt8", "sierra", "bookmap", "quantower")


def write_config(folder: Path) -> None:
    gateway = {
        "run_folder": str(folder / "run"),
        "log_folder": str(folder / "logs"),
        "symbols": [{"name": "NQ", "tick_size": "0.25"}],
        "recorder": {"enabled": True, "folder": str(folder / "ticks")},
    }
    platforms = {
        name: {
            "adapter": "nexus_gateway.adapters.simulator:SimulatorAdapter",
            "symbols": ["NQ"],
            "settings": {"ticks_per_s": 1e-6},  # one tick in eleven days
        }
        for name in PLATFORMS
    }
    (folder / "gateway_config.yaml").write_text(yaml.safe_dump(gateway))
    (folder / "platform_configs.yaml").write_text(yaml.safe_dump(platforms))


def name_of(process: psutil.Process) -> str:
    words = process.cmdline()
    marker = "nexus_gateway.core.process"
    return words[words.index(marker) + 1] if marker in words else "launcher"


def measure(processes: list[psutil.Process], seconds: float) -> list[tuple[str, float, float]]:
    """(name, percent of a core, resident MB) of each process over that time."""
    before = [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(seconds)
    return [
        (name_of(process), (sum(process.cpu_times()[:2]) - start) / seconds * 100, process.memory_info().rss / 1e6)
        for process, start in zip(processes, before, strict=True)
    ]


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_config(folder)
        command = [sys.executable, "-m", "nexus_gateway.core.cli", "run", "-c", name]
        launcher = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            children: list[psutil.Process] = []
            while len(children) < len(PLATFORMS) + 1 and time.monotonic() < deadline:
                time.sleep(0.5)
                children = psutil.Process(launcher.pid).children(recursive=True)
            time.sleep(8)  # compiling, loading, giving the compiler's pages back
            rows = measure([psutil.Process(launcher.pid), *children], seconds)
        finally:
            launcher.terminate()
            launcher.wait()
    for process, percent, resident_mb in rows:
        print(f"{process:<12} {percent:6.2f} % of a core   {resident_mb:6.0f} MB")
    total = sum(percent for _, percent, _ in rows)
    print(f"{'all ' + str(len(rows)):<12} {total:6.2f} % of a core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
