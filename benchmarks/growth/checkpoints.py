"""What a week of finished signals costs: size of a checkpoint, the longest turn while trading, memory of a process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from nexus_gateway.core.config import GatewayConfig

from benchmarks.growth import rig
from benchmarks.order_rig import expect
from tests.virtual_days.days import VirtualDays

_A_DAY = 12_000
_TRADING = 2_000


def measure_checkpoints(base: Path | None, finished: int, held: int, proof_ms: int) -> None:
    """Finish signals, hold some open, write checkpoints by hand, then trade through three of the gateway's own.

    `proof_ms`: between two regular checks while the week is filled, in which a day takes a sixth of its time.
    """
    with rig.folder(base) as root:
        with rig.days(root, proof_ms=proof_ms) as made:
            made.trader.trade(_A_DAY)
            made.run_until(lambda: len(made.trader.signals) >= finished, step_ns=10**9)
            made.trader.rest()
            made.run_days(1 / _A_DAY)
            rig.check(made)
            made.trader.trade(_A_DAY, hold_ns=30 * 86_400 * 10**9)
            made.run_until(lambda: len(made.trader.signals) >= finished + held, step_ns=10**9)
            made.trader.rest()
            rig.check(made)
            expect(len(made.trader.open), held)
            _print_checkpoint(made)
            _print_turns(made, "turns while the week was filled")
            made.trader.trade(_TRADING, hold_ns=20 * 10**9)
            before = len(made.turns_ns)
            seen = _newest(made)
            for _ in range(3):
                made.run_until(lambda seen=seen: _newest(made) > seen, step_ns=600 * 10**9)
                seen = _newest(made)
            made.trader.rest()
            _print_turns(made, "turns through three checkpoints", before)
            made.run_days(1 / _TRADING)
            rig.check(made)
        _print_memory(made.config, held)


def _newest(made: VirtualDays) -> int:
    return made.connection.execute("SELECT ifnull(max(seq), 0) FROM checkpoints").fetchone()[0]


def _print_checkpoint(made: VirtualDays) -> None:
    state = made.engine.state
    encode_s, data = rig.timed(made.engine.save)
    both_s, _ = rig.timed(lambda: made.journaled.checkpoint(state.now_ns, always=True))
    write_s = both_s - encode_s
    print(
        f"  {len(made.trader.signals):,} signals sent, {len(state.signals):,} in the state, {len(state.active):,} open,"
        f" {made.last_seq:,} events\n"
        f"  checkpoint {len(data) / 1e6:.2f} MB: encode {encode_s * 1e3:.0f} ms, "
        f"write {write_s * 1e3:.0f} ms of processor",
        flush=True,
    )


def _print_turns(made: VirtualDays, label: str, since: int = 0) -> None:
    rig.print_times(f"{label}, ms of processor", list(made.turns_ns[since:]))


_OPENER = """
import gc, pickle, sys, time
import psutil
from nexus_gateway.core.gateway import process  # all that the gateway process loads
from nexus_gateway.core.gateway.journaled_engine import JournaledEngine
from nexus_gateway.core.logs import process_log
config, rss = pickle.load(sys.stdin.buffer), lambda: psutil.Process().memory_info().rss / 1e6
before = rss()
log = process_log("growth")
journaled = JournaledEngine.open(config, log)
after, began_s = rss(), time.process_time()
gc.collect()
took_ms = (time.process_time() - began_s) * 1e3
text = f"memory: {before:.0f} MB before the journal is opened, {after:.0f} MB with it; "
text += f"one run of the garbage collector {took_ms:.0f} ms"
print(len(journaled.engine.state.active), text, sep="|")
journaled.close()
"""


def _print_memory(config: GatewayConfig, held: int) -> None:
    """Of a process that loads what the gateway process loads, and does nothing but open the journal."""
    done = subprocess.run([sys.executable, "-c", _OPENER], input=pickle.dumps(config), capture_output=True, check=True)
    open_signals, text = done.stdout.decode().strip().split("|")
    expect(int(open_signals), held)
    print(f"  {text}", flush=True)
