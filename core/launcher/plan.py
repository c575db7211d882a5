"""Which processes a configuration makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...shm import host
from ...shm.run_folder import check_name
from ..config import (
    ENTRY_PATTERN,
    GATEWAY_NAME,
    LAUNCHER_NAME,
    RECORDER_NAME,
    SIMULATOR,
    GatewayConfig,
    PlatformConfig,
)
from ..errors import ConfigError
from ..process import ProcessSpec, load_entry

ADAPTER_ENTRY: Final = "nexus_gateway.adapters.runner:main"
BRIDGE_ENTRY: Final = "nexus_gateway.adapters.bridge.process:main"
RECORDER_ENTRY: Final = "nexus_gateway.core.recorder.recorder:main"
GATEWAY_ENTRY: Final = "nexus_gateway.core.gateway:main"
NEXUS_ENTRY: Final = "nexus_gateway.nexus_link.nexus_ai:run_supervised"
REPLAY_ADAPTER: Final = "nexus_gateway.adapters.replay:ReplayAdapter"
_REPLAY_PLANNER: Final = "nexus_gateway.adapters.replay.plan:plan_replay"
REPLAY_NAME: Final = "replay"
NEXUS_NAME: Final = "nexus"
DEMO_SYMBOL: Final = "MNQ"
_DEMO_SCENARIOS: Final = {"mt5_br": "reject", "quantower": "partial_then_cancel"}


def plan_processes(config: GatewayConfig, *, nexus: dict[str, Any] | None = None) -> list[ProcessSpec]:
    """The processes in the order of starting; they are stopped in the opposite one, so that readers outlive writers.

    Args:
        nexus: arguments of NEXUS's example, which is started with the others then; None = NEXUS is the owner's affair.
    """
    specs = []
    if config.recorder.enabled:
        specs.append(ProcessSpec(name=RECORDER_NAME, entry=RECORDER_ENTRY, cores=config.cores_of(RECORDER_NAME)))
    if config.orders.enabled:
        specs.append(ProcessSpec(name=GATEWAY_NAME, entry=GATEWAY_ENTRY, cores=config.cores_of(GATEWAY_NAME)))
    if nexus is not None:
        cores = config.cores_of(NEXUS_NAME)
        specs.append(ProcessSpec(name=NEXUS_NAME, entry=NEXUS_ENTRY, cores=cores, arguments=nexus))
    for name, platform in config.platforms.items():
        if platform.enabled:
            if platform.settings.get("backend") == "native":
                bridge = f"{name}_bridge"
                arguments = {"platform": name}
                cores = config.cores_of(bridge)
                specs.append(ProcessSpec(name=bridge, entry=BRIDGE_ENTRY, cores=cores, arguments=arguments))
            specs.append(ProcessSpec(name=name, entry=ADAPTER_ENTRY, cores=platform.cores))
    return specs


def configure_replay(config: GatewayConfig, paths: Sequence[Path], **options: Any) -> GatewayConfig:
    """The configuration with one platform, "replay", that plays these recordings; `options`: see `plan_replay`.

    Raises:
        DataFormatError, FileNotFoundError: a recording cannot be opened.
    """
    # By name: core may not import adapters, and only this command needs them.
    symbols, settings = load_entry(_REPLAY_PLANNER, "replay planner")(paths, **options)
    platform = PlatformConfig(
        adapter=REPLAY_ADAPTER, symbols=tuple(symbol.name for symbol in symbols), settings=settings
    )
    return _keep_apart(msgspec.structs.replace(config, symbols=tuple(symbols), platforms={REPLAY_NAME: platform}))


def simulate_platforms(config: GatewayConfig) -> GatewayConfig:
    """The configuration with a simulation in place of every adapter: nothing real is touched."""
    platforms = {
        name: msgspec.structs.replace(platform, adapter=SIMULATOR, settings={})
        for name, platform in config.platforms.items()
    }
    return _keep_apart(msgspec.structs.replace(config, platforms=platforms))


def rehearse_signal(config: GatewayConfig) -> tuple[GatewayConfig, dict[str, Any]]:
    """A simulation in which one signal goes to all platforms: one refuses it, one fills it in part.

    Returns:
        The configuration, and the arguments of NEXUS's example (`nexus_link.demo_signal.DemoSignal`).
    """
    platforms = {}
    for name, platform in config.platforms.items():
        paper = {"mode": "netting", "currency": "USD"}
        if name in _DEMO_SCENARIOS:
            paper["scenario"] = _DEMO_SCENARIOS[name]
        symbols = platform.symbols if DEMO_SYMBOL in platform.symbols else (*platform.symbols, DEMO_SYMBOL)
        platforms[name] = msgspec.structs.replace(platform, symbols=symbols, settings={"paper": paper})
    # All platforms may trade at the last stage only; nothing but paper is at stake.
    limits = msgspec.structs.replace(config.limits, stage=max(config.limits.stages))
    signal = {
        "symbol": DEMO_SYMBOL,
        "quantities": {name: "2" for name, platform in platforms.items() if platform.enabled},
        "stop_distance": "35",
    }
    return msgspec.structs.replace(config, platforms=platforms, limits=limits), {"demo_signal": signal}


def _keep_apart(config: GatewayConfig) -> GatewayConfig:
    """A gateway that plays must touch neither the journal nor the ports of one that trades beside it."""
    orders = msgspec.structs.replace(config.orders, journal=str(config.run_path.absolute() / "orders.sqlite"))
    if not host.IS_WINDOWS:  # which has no socket files, so there the ports of the configuration stay
        orders = msgspec.structs.replace(orders, adapter_port=0, nexus_port=0)
    return msgspec.structs.replace(config, orders=orders)


def check_specs(specs: Sequence[ProcessSpec]) -> None:
    """Raise ConfigError when a name is no file name, reserved or given twice, or an entry is not "module:function"."""
    seen = {LAUNCHER_NAME}
    for spec in specs:
        try:
            check_name(spec.name)
        except ValueError as error:
            raise ConfigError(f"process {error}") from None
        if spec.name in seen:
            raise ConfigError(f"process name was {spec.name!r} twice, or is the launcher's own; choose another")
        seen.add(spec.name)
        if not ENTRY_PATTERN.fullmatch(spec.entry):
            raise ConfigError(f"entry of {spec.name} was {spec.entry!r}, must be 'module:function'")
