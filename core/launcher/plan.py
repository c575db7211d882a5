"""Makes the list of processes from a configuration, and the configurations of demo and replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ...shm import host
from ...shm.run_folder import check_name
from ..config import (
    GATEWAY_NAME,
    LAUNCHER_NAME,
    RECORDER_NAME,
    SIMULATOR,
    GatewayConfig,
    PlatformConfig,
    load_entry,
)
from ..config.schema import ENTRY_PATTERN
from ..errors import ConfigError
from ..process import ProcessSpec

ADAPTER_ENTRY: Final = "nexus_gateway.adapters.runner:main"
BRIDGE_ENTRY: Final = "nexus_gateway.adapters.bridge.process:main"
RECORDER_ENTRY: Final = "nexus_gateway.core.recorder.recorder:main"
GATEWAY_ENTRY: Final = "nexus_gateway.core.gateway:main"
NEXUS_ENTRY: Final = "nexus_gateway.nexus_link.nexus_ai:run_supervised"
REPLAY_ADAPTER: Final = "nexus_gateway.adapters.replay:ReplayAdapter"
_BRIDGE_SUFFIX: Final = "_bridge"
_REPLAY_PLANNER: Final = "nexus_gateway.adapters.replay.plan:plan_replay"
REPLAY_NAME: Final = "replay"
NEXUS_NAME: Final = "nexus"
DEMO_SYMBOL: Final = "MNQ"
_DEMO_SCENARIOS: Final = {"mt5_br": "reject", "quantower": "partial_then_cancel"}


def passed_variables(config: GatewayConfig, process: str) -> tuple[str, ...]:
    """Environment variables that this process gets beside those that every child gets: what `launcher.pass_environment`
    names, and for a platform's adapter and bridge the variable with its token (`token_env`).
    """
    platform = config.platforms.get(process) or config.platforms.get(process.removesuffix(_BRIDGE_SUFFIX))
    token = None if platform is None else platform.settings.get("token_env")
    return (*config.launcher.pass_environment, *((token,) if isinstance(token, str) else ()))


def plan_processes(config: GatewayConfig, *, nexus: dict[str, Any] | None = None) -> list[ProcessSpec]:
    """The processes in the order of starting. They are stopped in reverse, so that readers see the last ticks.

    Args:
        nexus: arguments of the example of NEXUS, which is then started too; None = the user starts NEXUS himself.
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
                bridge = name + _BRIDGE_SUFFIX
                arguments = {"platform": name}
                cores = config.cores_of(bridge)
                specs.append(ProcessSpec(name=bridge, entry=BRIDGE_ENTRY, cores=cores, arguments=arguments))
            specs.append(ProcessSpec(name=name, entry=ADAPTER_ENTRY, cores=platform.cores))
    return specs


def configure_replay(config: GatewayConfig, paths: Sequence[Path], **options: Any) -> GatewayConfig:
    """The configuration with one platform, "replay", that plays recordings. `options`: see `plan_replay`.

    Raises:
        DataFormatError, FileNotFoundError: a recording cannot be opened.
    """
    # By name: core must not import adapters.
    symbols, settings = load_entry(_REPLAY_PLANNER, "replay planner")(paths, **options)
    platform = PlatformConfig(
        adapter=REPLAY_ADAPTER, symbols=tuple(symbol.name for symbol in symbols), settings=settings
    )
    return _keep_apart(msgspec.structs.replace(config, symbols=tuple(symbols), platforms={REPLAY_NAME: platform}))


def simulate_platforms(config: GatewayConfig) -> GatewayConfig:
    """The configuration with the simulator in place of every adapter: no real platform is used."""
    platforms = {
        name: msgspec.structs.replace(platform, adapter=SIMULATOR, settings={})
        for name, platform in config.platforms.items()
    }
    return _keep_apart(msgspec.structs.replace(config, platforms=platforms))


def rehearse_signal(config: GatewayConfig) -> tuple[GatewayConfig, dict[str, Any]]:
    """Prepare a simulation in which one signal goes to all platforms: one rejects it, one fills it partly.

    Returns:
        The configuration, and the arguments of the example of NEXUS (`nexus_link.example.demo_signal.DemoSignal`).
    """
    platforms = {}
    for name, platform in config.platforms.items():
        paper = {"mode": "netting", "currency": "USD"}
        if name in _DEMO_SCENARIOS:
            paper["scenario"] = _DEMO_SCENARIOS[name]
        symbols = platform.symbols if DEMO_SYMBOL in platform.symbols else (*platform.symbols, DEMO_SYMBOL)
        platforms[name] = msgspec.structs.replace(platform, symbols=symbols, settings={"paper": paper})
    # The last stage is the only one that allows all platforms. Only the paper exchange trades here.
    limits = msgspec.structs.replace(config.limits, stage=max(config.limits.stages))
    signal = {
        "symbol": DEMO_SYMBOL,
        "quantities": {name: "2" for name, platform in platforms.items() if platform.enabled},
        "stop_distance": "35",
    }
    return msgspec.structs.replace(config, platforms=platforms, limits=limits), {"demo_signal": signal}


def _keep_apart(config: GatewayConfig) -> GatewayConfig:
    """Use a journal in the run folder, and no TCP ports.

    Else a demo or replay would write to the journal, or take the ports, of a gateway that trades on the same machine.
    """
    orders = msgspec.structs.replace(config.orders, journal=str(config.run_path.absolute() / "orders.sqlite"))
    if not host.IS_WINDOWS:  # Windows has no socket files: there the configured ports stay
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
