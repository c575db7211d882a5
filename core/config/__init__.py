"""Configuration: YAML files -> frozen, checked structs; an embedded default when there are none."""

from .conversion import convert_settings as convert_settings
from .disk import DiskConfig as DiskConfig
from .entries import load_entry as load_entry
from .loading import (
    GATEWAY_FILE as GATEWAY_FILE,
    LIMITS_FILE as LIMITS_FILE,
    PLATFORMS_FILE as PLATFORMS_FILE,
    SYMBOLS_FILE as SYMBOLS_FILE,
    load_config as load_config,
)
from .orders import OrdersConfig as OrdersConfig
from .rollover import RolloverConfig as RolloverConfig
from .schema import (
    GATEWAY_NAME as GATEWAY_NAME,
    LAUNCHER_NAME as LAUNCHER_NAME,
    PLATFORM_KEYS as PLATFORM_KEYS,
    RECORDER_NAME as RECORDER_NAME,
    SIMULATOR as SIMULATOR,
    GatewayConfig as GatewayConfig,
    LauncherConfig as LauncherConfig,
    PlatformConfig as PlatformConfig,
    RecorderConfig as RecorderConfig,
    SymbolConfig as SymbolConfig,
    platform_of as platform_of,
)
from .trading import TradingSettings as TradingSettings, paper_account_name as paper_account_name
