"""The conformance suite's rig for bridged platforms: the reference bridge in this process, the adapter in its own."""

from __future__ import annotations

import os
import secrets
from typing import Any

from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.core.config import convert_settings

from tests.conformance.rig import Price, Rig
from tests.reference_bridge.paper_platform import ACCOUNT, PaperPlatform, describe_nq
from tests.reference_bridge.server import BridgeServer

TOKEN = secrets.token_hex(16)
PLATFORM_NAME = "NQ 12-26"


class BridgeRig(Rig):
    """The adapter as it is for every bridged platform, over TCP."""

    NAME = "bridge"
    answer_timeout_s = 2.0

    def entry(self) -> str:
        return "tests.reference_bridge.adapter:ReferenceAdapter"

    def settings(self, **changes: Any) -> dict[str, Any]:
        silence_s = changes.pop("silence_s", None)
        paper = convert_settings(PaperSettings, {"rehearse": True, **changes}, "rig")
        self.paper_platform = PaperPlatform(self.platform, paper, {PLATFORM_NAME: describe_nq()}, self._die)
        self.server: BridgeServer | None = BridgeServer(self.paper_platform, TOKEN)
        self.paper_platform.server = self.server
        self._port = self.server.port
        self.stop_platform()
        token_file = self._folder / "bridge.token"
        token_file.write_text(TOKEN)
        os.chmod(token_file, 0o600)
        return {
            "port": self._port,
            "token_file": str(token_file),
            "names": {self.symbol: PLATFORM_NAME},
            "orders": "platform",
            "accounts": [ACCOUNT],
            "answer_timeout_s": self.answer_timeout_s,
            "snapshot_timeout_s": 0.6,
            "timing": {"heartbeat_ms": 100, "mute_after_ms": 1000},
            "session": {"first_backoff_s": 0.05, "longest_backoff_s": 0.2, "silence_s": silence_s},
        }

    def start_platform(self) -> None:
        if self.server is None:
            self.server = BridgeServer(self.paper_platform, TOKEN, self._port)
            self.paper_platform.server = self.server
        self.server.token = TOKEN
        self.server.mute = False

    def stop_platform(self) -> None:
        server, self.server = self.server, None
        self.paper_platform.server = None
        if server is not None:
            server.stop()

    def refuse_login(self) -> None:
        self.start_platform()
        assert self.server is not None
        self.server.token = "another token, also long enough"

    def mute_platform(self) -> None:
        assert self.server is not None
        self.server.mute = True

    def quote(self, bid: Price, ask: Price, bid_size: Price = 50, ask_size: Price = 50) -> None:
        self.gateway.until(lambda: self.paper_platform.is_subscribed, "a subscription")
        quoted_ns = self.paper_platform.quote(self.symbol, bid, ask, bid_size, ask_size)
        self.gateway.until(lambda: quoted_ns in self.ticks()["ts_event_ns"][-20:], "the tick in the ring")

    def close(self) -> None:
        super().close()
        self.paper_platform.close()

    def _die(self) -> None:
        if self.is_running:
            self.kill_adapter()
