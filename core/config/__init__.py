"""Configuration: YAML files -> frozen, checked structs; an embedded default when there are none."""

from .conversion import convert_settings
from .loading import GATEWAY_FILE, LIMITS_FILE, PLATFORMS_FILE, SYMBOLS_FILE, load_config
from .rollover import RolloverConfig
from .schema import (
    GATEWAY_NAME,
    LAUNCHER_NAME,
    PLATFORM_KEYS,
    RECORDER_NAME,
    SIMULATOR,
    CurveConfig,
    GatewayConfig,
    LauncherConfig,
    OrdersConfig,
    PlatformConfig,
    RecorderConfig,
    SymbolConfig,
    platform_of,
)

__all__ = [
    "GATEWAY_FILE",
    "GATEWAY_NAME",
    "LAUNCHER_NAME",
    "LIMITS_FILE",
    "PLATFORMS_FILE",
    "PLATFORM_KEYS",
    "RECORDER_NAME",
    "SIMULATOR",
    "SYMBOLS_FILE",
    "CurveConfig",
    "GatewayConfig",
    "LauncherConfig",
    "OrdersConfig",
    "PlatformConfig",
    "RecorderConfig",
    "RolloverConfig",
    "SymbolConfig",
    "convert_settings",
    "load_config",
    "platform_of",
]
