"""The adapters that the suite runs against. A new one adds its rig here, in a few lines."""

from __future__ import annotations

import json
from typing import Any

from nexus_gateway.core.config import SIMULATOR

from tests.conformance.mt5_rig import Mt5HedgingRig, Mt5NettingRig
from tests.conformance.rig import Price, Rig
from tests.reference_bridge.rig import BridgeRig


class SimulatorRig(Rig):
    """The simulator with its paper account; `<name>.platform.json` breaks and mends the platform."""

    NAME = "simulator"

    def entry(self) -> str:
        return SIMULATOR

    def settings(self, **changes: Any) -> dict[str, Any]:
        silence_s = changes.pop("silence_s", None)
        return {
            "ticks_per_s": changes.pop("ticks_per_s", 0),
            "paper": {"rehearse": True, **changes},
            "session": {"first_backoff_s": 0.05, "longest_backoff_s": 0.2, "silence_s": silence_s},
        }

    def start_platform(self) -> None:
        self._say()

    def stop_platform(self) -> None:
        self._say(running=False)

    def refuse_login(self) -> None:
        self._say(accepts_login=False)

    def mute_platform(self) -> None:
        self._say(mute=True)

    def quote(self, bid: Price, ask: Price, bid_size: Price = 50, ask_size: Price = 50) -> None:
        before = self.counters().get("ticks_published", 0)
        # The number makes each version of the file another one, so that the same quote can come twice.
        self._say(quotes=[[self.symbol, bid, ask, bid_size, ask_size]], number=before)
        self.wait_counter("ticks_published", before + 1)

    def _say(self, **state: Any) -> None:
        path = self.run_folder / f"{self.platform}.platform.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(path)


RIGS: tuple[type[Rig], ...] = (SimulatorRig, BridgeRig, Mt5NettingRig, Mt5HedgingRig)
