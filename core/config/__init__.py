"""Configuration: YAML files -> frozen, checked structs; an embedded default when there are none."""

from .conversion import convert_settings
from .loading import GATEWAY_FILE, PLATFORMS_FILE, load_config
from .schema import (
    LAUNCHER_NAME,
    PLATFORM_KEYS,
    RECORDER_NAME,
    SIMULATOR,
    GatewayConfig,
    LauncherConfig,
    PlatformConfig,
    RecorderConfig,
    SymbolConfig,
    platform_of,
)

__all__ = [
    "GATEWAY_FILE",
    "LAUNCHER_NAME",
    "PLATFORMS_FILE",
    "PLATFORM_KEYS",
    "RECORDER_NAME",
    "SIMULATOR",
    "GatewayConfig",
    "LauncherConfig",
    "PlatformConfig",
    "RecorderConfig",
    "SymbolConfig",
    "convert_settings",
    "load_config",
    "platform_of",
]
