"""Answers to hellos: which peers may open a session with the gateway."""

from __future__ import annotations

from typing import Final

from ..config import GatewayConfig
from ..messages import Hello, KillLevel, RejectCode, Role, Welcome
from ..transport import peer_of
from .journaled_engine import JournaledEngine
from .kill_instructions import KillInstructions

_MAX_TEXT: Final = 500


class Greeter:
    """Made before the ports, which call `greet` for each hello of the role that its key proves. Used by one thread."""

    def __init__(
        self, config: GatewayConfig, journaled: JournaledEngine, kills: KillInstructions, boot_id: str
    ) -> None:
        self._config = config
        self._trading = {key: platform.trading for key, platform in config.platforms.items()}
        self._journaled = journaled
        self._kills = kills
        self._boot_id = boot_id

    def greet(self, hello: Hello) -> Welcome:
        """Accept a hello, or refuse an adapter whose platform is severed, or whose account is not configured."""
        state = self._journaled.engine.state
        refusal = self._refuse_adapter(hello) if hello.role is Role.ADAPTER else ""
        return Welcome(
            accepted=not refusal,
            gateway_boot_id=self._boot_id,
            stage=state.stage,
            kill_level=state.kill,
            heartbeat_ms=self._config.orders.heartbeat_ms,
            code=RejectCode.NOT_ALLOWED if refusal else RejectCode.NONE,
            text=refusal,
        )

    def _refuse_adapter(self, hello: Hello) -> str:
        route = self._journaled.engine.state.routes.get(peer_of(hello))
        is_severed = route is not None and route.severed
        # The kill file too: an instruction written a moment ago has not reached the engine yet.
        if is_severed or self._kills.level_of(hello.platform) is KillLevel.SEVER:
            return f"{hello.platform} is severed; resume first: nexus-gateway resume"
        if hello.platform not in self._config.platforms:
            return f"platform was {hello.platform!r}, which platform_configs.yaml does not list; add it there"
        refusal = self._trading[hello.platform].refuse_account(hello.platform, hello.account)
        return (refusal or _refuse_instruments(hello))[:_MAX_TEXT]


def _refuse_instruments(hello: Hello) -> str:
    faults = [fault for each in hello.instruments if (fault := each.find_fault())]
    if not faults:
        return ""
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0]}{others}; leave out a number that the platform does not know"
