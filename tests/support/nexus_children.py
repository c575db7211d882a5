"""A NEXUS that ends as if by kill -9 at a chosen moment, and a gateway in a process of its own: for kill tests.

python -m tests.support.nexus_children nexus FOLDER SIGNAL_ID MOMENT
python -m tests.support.nexus_children gateway FOLDER JOURNAL
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from nexus_gateway.core.messages import Message, Signal
from nexus_gateway.core.transport import LinkClient
from nexus_gateway.nexus_link.interface import NexusGatewayInterface
from nexus_gateway.nexus_link.orders.outbox import Outbox

from tests.support.patience import patient
from tests.support.scripted_gateway import ScriptedGateway, make_signal, options_of, until

ROOT = Path(__file__).parents[2]
MOMENTS = ("before_keeping", "between_keeping_and_sending", "between_sending_and_report", "before_noting_the_report")
EXIT_CODE_OF_KILL = -9


def start(*arguments: object) -> subprocess.Popen[str]:
    """One of the two, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.nexus_children", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def arrange_death(moment: str) -> None:
    """Put the end between two steps of the real code."""
    add, send, mark = Outbox.add, LinkClient.send, Outbox.mark_answered

    def keep(self: Outbox, signal: Signal) -> None:
        die_at("before_keeping")
        add(self, signal)
        die_at("between_keeping_and_sending")

    def send_body(self: LinkClient, body: Message) -> bool:
        sent = send(self, body)
        if moment == "between_sending_and_report" and isinstance(body, Signal):
            # Its report cannot be read any more, but ZeroMQ's own thread still brings the signal out.
            until(lambda: (Path(sys.argv[2]) / "executed").exists())
            die_at(moment)
        return sent

    def note(self: Outbox, signal_id: str) -> None:
        die_at("before_noting_the_report")
        mark(self, signal_id)

    def die_at(here: str) -> None:
        if here == moment:
            os.kill(os.getpid(), 9)

    Outbox.add, LinkClient.send, Outbox.mark_answered = keep, send_body, note  # type: ignore[method-assign]


def run_nexus(folder: Path, signal_id: str, moment: str) -> None:
    """Connect, send one signal, print what came of it."""
    arrange_death(moment)
    nexus = NexusGatewayInterface(options_of(folder))
    if not nexus.connect(patient(60)):
        sys.exit(f"no link: {nexus.status.text}")
    outcome = nexus.send_signal(make_signal(signal_id), 60)
    print(outcome.state, flush=True)
    nexus.close()


def run_gateway(folder: Path, journal: Path) -> None:
    """Serve until killed."""
    gateway = ScriptedGateway(folder, journal=journal)
    print("ready", flush=True)
    while gateway.is_alive:
        time.sleep(0.1)


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "nexus":
        run_nexus(Path(rest[0]), rest[1], rest[2])
    else:
        run_gateway(Path(rest[0]), Path(rest[1]))
