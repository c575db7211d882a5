"""Loads the configuration folder: all or nothing, with every fault reported at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..risk.limits import Limits, read_limits
from .conversion import Converter
from .schema import LAUNCHER_NAME, PLATFORM_KEYS, GatewayConfig, GatewayFile, PlatformConfig
from .trading import TradingSettings, pick_trading_settings
from .yaml_file import KeyPath, YamlFile, read_yaml, show_path

GATEWAY_FILE: Final = "gateway_config.yaml"
PLATFORMS_FILE: Final = "platform_configs.yaml"
LIMITS_FILE: Final = "risk_limits.yaml"
SYMBOLS_FILE: Final = "symbol_mappings.json"


def load_config(folder: Path | None = None) -> GatewayConfig:
    """Load and check the configuration. Any process; it only reads.

    Args:
        folder: has gateway_config.yaml or platform_configs.yaml or both, and optionally risk_limits.yaml and
            symbol_mappings.json; None = the embedded default. For a missing file its part of the default is used.
            A missing key has its default, except in risk_limits.yaml, which must be complete. A platform that is
            missing in platform_configs.yaml does not run.

    Raises:
        ConfigError: one line per fault: file and line, key path, value, limit, cure. Nothing has been applied.
    """
    if folder is None:
        return GatewayConfig()
    if not folder.is_dir():
        raise ConfigError(f"configuration folder was {folder}, must be an existing folder; correct the path")
    files = {name: folder / name for name in (GATEWAY_FILE, PLATFORMS_FILE) if (folder / name).exists()}
    if not files:
        raise ConfigError(
            f"configuration folder {folder} has neither {GATEWAY_FILE} nor {PLATFORMS_FILE}; "
            "name the folder that holds them, or none for the embedded default"
        )
    read, problems = {}, []
    for name, path in files.items():
        try:
            read[name] = read_yaml(path)
        except ConfigError as error:
            problems.append(str(error))
    gateway, platforms = GatewayFile(), GatewayConfig().platforms
    gateway_known = True
    if GATEWAY_FILE in files:
        file = read.get(GATEWAY_FILE)
        converted = _convert_gateway(file, problems) if file else None
        gateway_known = converted is not None
        gateway = converted or gateway
    if PLATFORMS_FILE in read:
        known = {symbol.name for symbol in gateway.symbols} if gateway_known else None
        platforms = _convert_platforms(read[PLATFORMS_FILE], known, problems)
    elif gateway_known and PLATFORMS_FILE not in files:
        problems += _describe_default_conflicts(files[GATEWAY_FILE], gateway, platforms)
    problems += [
        f"{files[GATEWAY_FILE]}: cores.{process} is not allowed: {_CORES_CURES[process]}"
        for process in gateway.cores
        if process in _CORES_CURES
    ]
    limits = _read_limits(folder / LIMITS_FILE, problems)
    stand_ins = _read_stand_ins(folder / SYMBOLS_FILE, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return GatewayConfig(
        **{name: getattr(gateway, name) for name in GatewayFile.__struct_fields__},
        platforms=platforms,
        limits=limits,
        stand_ins=stand_ins,
        symbols_file=str((folder / SYMBOLS_FILE).resolve()) if (folder / SYMBOLS_FILE).exists() else None,
    )


def _read_limits(path: Path, problems: list[str]) -> Limits:
    default = GatewayConfig().limits
    if not path.exists():
        return default
    try:
        # First, because it refuses a key given twice: `read_limits` would silently take the second one.
        read_yaml(path)
        return read_limits(path)
    except ConfigError as error:
        problems.append(str(error))
        return default


def _read_stand_ins(path: Path, problems: list[str]) -> dict[str, dict[str, str]]:
    default = GatewayConfig().stand_ins
    if not path.exists():
        return default
    # Imported here: it loads holiday calendars, which most processes do not need.
    from ..instruments.symbol_mapping import read_mapping

    try:
        mapping = read_mapping(path)
    except ConfigError as error:
        problems.append(str(error))
        return default
    return {name: dict(each.stands_for) for name, each in mapping.platforms.items() if each.stands_for}


_CORES_CURES: Final = {
    LAUNCHER_NAME: "the launcher needs no core of its own; remove it",
    **{key: f"write `cores` under {key} in {PLATFORMS_FILE}" for key in PLATFORM_KEYS},
}


def _converter(file: YamlFile) -> Converter:
    def place(path: KeyPath) -> str:
        return f"{file.place(path)}: {show_path(path)}".removesuffix(": ")

    return Converter(place)


def _convert_gateway(file: YamlFile, problems: list[str]) -> GatewayFile | None:
    converter = _converter(file)
    gateway = converter.convert_struct(file.content, GatewayFile, ())
    problems += converter.problems
    return gateway if isinstance(gateway, GatewayFile) else None


def _convert_platforms(file: YamlFile, known: set[str] | None, problems: list[str]) -> dict[str, PlatformConfig]:
    """`known`: the configured symbols; None when their file is faulty, then unknown ones are not reported."""
    converter = _converter(file)
    platforms = {}
    for key, value in file.content.items():
        if key not in PLATFORM_KEYS:
            converter.refuse_key((key,), list(PLATFORM_KEYS))
            continue
        platform = converter.convert_struct(value, PlatformConfig, (key,))
        if not isinstance(platform, PlatformConfig):
            continue
        platforms[key] = platform
        # The other settings are checked by the adapter's own process, at its start.
        converter.convert_struct(pick_trading_settings(platform.settings), TradingSettings, (key, "settings"))
        converter.problems += [
            f"{file.place((key, 'symbols', index))}: {key}.symbols[{index}] was {name!r}, must be one of the symbols "
            f"in {GATEWAY_FILE}; add it there, with its tick size"
            for index, name in enumerate(platform.symbols)
            if known is not None and name not in known
        ]
    problems += converter.problems
    return platforms


def _describe_default_conflicts(path: Path, gateway: GatewayFile, platforms: dict[str, PlatformConfig]) -> list[str]:
    known = {symbol.name for symbol in gateway.symbols}
    missing = sorted({name for platform in platforms.values() for name in platform.symbols} - known)
    if not missing:
        return []
    return [
        f"{path}: symbols leaves out {', '.join(missing)}, which the default platforms use; "
        f"write {PLATFORMS_FILE} beside it with the symbols of each platform"
    ]
