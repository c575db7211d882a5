"""The suite's rigs for MetaTrader 5: stand-in terminal, real bridge process, real adapter process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tests.conformance.rig import Price, Rig
from tests.mt5_terminal.control import StandIn
from tests.support.mt5_bridges import BridgeProcess

POLLED = "the bridge reads orders and deals; there is no report that could come twice, be lost or be delayed by itself"
SAME = "has to do neither with orders nor with the kind of account, and is run with the netting one"


class Mt5NettingRig(Rig):
    """A netting account with EXCHANGE execution at a Brazilian broker, through the adapter for Brazil.

    The suite's market has quarter points, which no contract of B3 has: it trades one of the test's own there.
    """

    NAME = "mt5-netting"
    MODE = "netting"
    PRESET = "b3"
    ADAPTER = "BrazilAdapter"
    MARKET: ClassVar[Mapping[str, object]] = {"trade_exemode": 3, "trade_calc_mode": 33, "margin_initial": 1.0}
    SETTINGS: ClassVar[Mapping[str, object]] = {"quotes_outside_session": True}  # on whatever day the tests run
    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {
        "d02": "0 is the terminal's word for no price (NaN here), and a crossed quote is sent as not known: "
        "tests/bridges/mt5/test_ticks.py",
        "o06": "a market order at the exchange cannot be changed; of a limit order: tests/bridges/mt5/test_orders.py",
        "o09": "a deal is told once, however often the terminal lists it: tests/bridges/mt5/test_orders.py",
        "o10": f"order_send blocks until the acknowledgement is there; {POLLED}",
        "o12": f"what the terminal does not list yet no snapshot can show: tests/bridges/mt5/test_orders.py; {POLLED}",
        "o23": f"{POLLED}: tests/bridges/mt5/test_orders.py has a deal that is listed late",
        "o24": f"{POLLED}, and a terminal whose data stand still shows the same to a snapshot",
        "o30": "what one symbol refuses is not the account's capability: tests/bridges/mt5/test_orders.py",
        "o32": "stop and target are two prices of one position: when one has closed it, the other is gone",
    }
    platform = "mt5_br"
    contract = "NQZ26"

    def entry(self) -> str:
        return f"tests.support.mt5_adapters:{self.ADAPTER}"

    def settings(self, **changes: Any) -> dict[str, Any]:
        silence_s = changes.pop("silence_s", None)
        mode = changes.pop("mode", "hedging" if changes.pop("brackets", False) else self.MODE)
        assert not changes, f"a terminal cannot be told {changes}"
        self.stand_in = StandIn(
            self._folder / "t", self.PRESET, margin_mode=mode, rehearse=True, launch_wait_s=0.2, running=False
        )
        lots = {"volume_min": 1.0, "volume_step": 1.0, "volume_max": 500.0}
        self.stand_in.set_symbol(self.contract, digits=2, trade_tick_size=0.25, **lots, **self.MARKET)
        self.bridge = BridgeProcess(self.stand_in, self._folder / "b", self.PRESET, self.platform)
        token_file = self._folder / "adapter.token"
        token_file.touch(0o600)
        token_file.write_text(self.bridge.token)
        return {
            "backend": "remote",
            "port": self.bridge.port,
            "token_file": str(token_file),
            "names": {self.symbol: self.contract},
            "orders": "platform",
            "account": str(self.bridge.config["login"]),
            "accounts": [str(self.bridge.config["login"])],
            "answer_timeout_s": 5.0,
            "snapshot_timeout_s": 0.6,
            "timing": {"heartbeat_ms": 100, "mute_after_ms": 1000},
            "session": {"first_backoff_s": 0.05, "longest_backoff_s": 0.2, "silence_s": silence_s},
            **self.SETTINGS,
        }

    def start_platform(self) -> None:
        self.stand_in.launch_terminal()
        self.stand_in.release()
        if not self.bridge.is_running:
            self.bridge.write_token(self.bridge.token)
            self.bridge.start()

    def start_adapter(self) -> None:
        super().start_adapter()
        assert self._process is not None
        self.stand_in.set_victim(self._process.pid)

    def stop_platform(self) -> None:
        self.stand_in.kill_terminal(stay_down=True)

    def refuse_login(self) -> None:
        self.stand_in.launch_terminal()
        self.bridge.write_token("another token, also long enough")
        self.bridge.start()

    def mute_platform(self) -> None:
        """It is, while nobody quotes."""

    def quote(self, bid: Price, ask: Price, bid_size: Price = 50, ask_size: Price = 50) -> None:
        row = self.stand_in.quote(self.contract, bid or 0.0, ask or 0.0)
        quoted_ns = self.bridge.clock.to_utc_ns(int(row["time_msc"]))
        self.gateway.until(lambda: quoted_ns in self.ticks()["ts_event_ns"][-20:], "the tick in the ring")

    def close(self) -> None:
        super().close()
        self.bridge.close()
        self.stand_in.close()


class Mt5HedgingRig(Mt5NettingRig):
    """A hedging account with MARKET execution at a global broker, whose server's clock is ahead of UTC."""

    NAME = "mt5-hedging"
    MODE = "hedging"
    PRESET = "global"
    ADAPTER = "GlobalAdapter"
    MARKET: ClassVar[Mapping[str, object]] = {"trade_exemode": 2}
    SETTINGS: ClassVar[Mapping[str, object]] = {}
    platform = "mt5"
    NOT_APPLICABLE: ClassVar[Mapping[str, str]] = {
        **Mt5NettingRig.NOT_APPLICABLE,
        "o20": "on a hedging account an opposite order opens a position of its own",
        **dict.fromkeys(("c02", "c03", "c05", "c06", "c10", "c13", "d01", "d03"), SAME),
    }
