"""A NEXUS in a process of its own, on another host: takes commands as JSON lines, says what it knows as JSON lines.

python -m tests.support.far_nexus HOST PORT KEYS OUTBOX
"""

from __future__ import annotations

import json
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from nexus_gateway.core.messages import Bracket, OrderType, Side, Signal, SignalClose, Target
from nexus_gateway.nexus_link.interface import NexusGatewayInterface, gateway_options


def main(host: str, port: str, keys: str, outbox: str) -> None:
    options = gateway_options(host_name=host, port=int(port), keys_folder=Path(keys), outbox=Path(outbox))
    nexus = NexusGatewayInterface(options)
    nexus.connect(0)
    commands: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=lambda: [commands.put(json.loads(line)) for line in sys.stdin], daemon=True).start()
    sent: list[str] = []
    said = ""
    while True:
        try:
            command = commands.get(timeout=0.02)
        except Empty:
            command = {}
        match command.get("do"):
            case "send":
                signal_id = command["id"]
                sent.append(signal_id)
                nexus.send_signal(make_signal(signal_id, command["type"]), 0)
            case "close":
                nexus.change_signal(SignalClose(signal_id=command["id"]), 0)
            case "stop":
                nexus.close()
                return
            case _:
                pass
        outcomes = {name: nexus.outcome(name) for name in sent}
        news = {
            "is_up": nexus.status.is_up,
            "text": nexus.status.text,
            "links": nexus.counts.get("link_links", 0),
            "outcomes": {name: [each.state, each.code, each.text] for name, each in outcomes.items() if each},
        }
        line = json.dumps(news)
        if line != said:
            said = line
            print(line, flush=True)


def make_signal(signal_id: str, kind: str) -> Signal:
    """One lot on nt8 with a stop, at the market or at a limit that rests."""
    price = {"order_type": OrderType.LIMIT, "limit_price": Decimal(20_990)} if kind == "limit" else {}
    return Signal(
        signal_id=signal_id, symbol="NQ", side=Side.BUY, created_ns=time.time_ns(), quantity=Decimal(1),
        targets=(Target(platform="nt8"),), bracket=Bracket(stop_loss=Decimal(20_900)), **price,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
