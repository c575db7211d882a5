"""The configuration: embedded default, shipped files, and every kind of fault with its place, value and cure."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import yaml
from nexus_gateway.core.config import (
    PLATFORM_KEYS,
    SIMULATOR,
    GatewayConfig,
    PlatformConfig,
    load_config,
    load_entry,
    platform_of,
)
from nexus_gateway.core.errors import ConfigError, RunFolderError
from nexus_gateway.core.launcher.configured_symbols import enter_symbols
from nexus_gateway.shm import host
from nexus_gateway.shm.symbols import IDS_FOR_CONTRACTS, MAX_CONFIGURED, Symbol, add_symbols
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter

ROOT = Path(__file__).parents[3]


def load(folder: Path, gateway: str | None = None, platforms: str | None = None) -> GatewayConfig:
    for name, text in (("gateway_config.yaml", gateway), ("platform_configs.yaml", platforms)):
        if text is not None:
            (folder / name).write_text(text)
    return load_config(folder)


def faults(folder: Path, gateway: str | None = None, platforms: str | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(folder, gateway, platforms)
    return str(raised.value).replace(f"{folder}/", "").split("\n")


def test_shipped_files_equal_the_embedded_default() -> None:
    shipped = load_config(ROOT / "config")
    assert shipped.symbols_file == str(ROOT / "config" / "symbol_mappings.json")
    assert msgspec.structs.replace(shipped, symbols_file=None) == load_config(None)


def test_default_runs_six_simulated_platforms_with_fifty_symbols() -> None:
    config = load_config()
    assert tuple(config.platforms) == PLATFORM_KEYS
    assert all(platform.enabled and platform.adapter == SIMULATOR for platform in config.platforms.values())
    used = {name for platform in config.platforms.values() for name in platform.symbols}
    assert len(used) >= 50
    assert used == {symbol.name for symbol in config.symbols}
    assert config.run_path == host.default_run_folder()


def test_default_tick_sizes_are_those_of_the_instrument_catalog() -> None:
    catalog = yaml.safe_load((ROOT / "core/instruments/catalog.yaml").read_text())["instruments"]
    ticks = {str(entry["symbol"]): Decimal(entry["tick"]) for entry in catalog}
    config = load_config()
    assert {s.name: s.tick_size for s in config.symbols if s.name in ticks} == {
        name: tick for name, tick in ticks.items() if name in {s.name for s in config.symbols}
    }


def test_a_file_may_say_little(tmp_path: Path) -> None:
    config = load(tmp_path, "log_level: debug\nlauncher: {stop_grace_s: 1}\n")
    assert (config.log_level, config.launcher.stop_grace_s) == ("debug", 1.0)
    assert config.launcher.max_restarts == GatewayConfig().launcher.max_restarts
    assert config.platforms == GatewayConfig().platforms
    assert load(tmp_path, "") == GatewayConfig()


def test_platforms_that_are_not_listed_do_not_run(tmp_path: Path) -> None:
    config = load(tmp_path, platforms="nt8: {adapter: 'a.b:C', symbols: [NQ], cores: [1], settings: {port: 9001}}\n")
    assert list(config.platforms) == ["nt8"]
    assert config.platforms["nt8"].settings == {"port": 9001}
    assert (config.cores_of("nt8"), config.cores_of("recorder")) == ((1,), ())


def test_folders_of_the_user_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load(tmp_path, "run_folder: ~/run\nlog_folder: ~/logs\nrecorder: {folder: ~/ticks}\n")
    assert (config.run_path, config.log_path) == (tmp_path / "run", tmp_path / "logs")
    assert config.recorder.path == tmp_path / "ticks"


def test_survives_the_way_to_the_children(tmp_path: Path) -> None:
    config = load(tmp_path, platforms="nt8: {adapter: 'a.b:C', symbols: [NQ], settings: {a: [1, 2.5, x, null, true]}}")
    assert msgspec.json.decode(msgspec.json.encode(config), type=GatewayConfig) == config


@pytest.mark.parametrize(
    ("gateway", "fault"),
    [
        ("log_levl: info", "gateway_config.yaml:1: log_levl is not a known key; did you mean 'log_level'?"),
        ("xyz: 1", "gateway_config.yaml:1: xyz is not a known key; known keys here: run_folder, log_folder,"),
        ("platforms: {}", "platforms is not a known key"),
        ("log_level: loud", "log_level was 'loud', must be one of debug, error, info, warning; the default is 'info'"),
        (
            "\nlauncher:\n  max_restarts: -1",
            "gateway_config.yaml:3: launcher.max_restarts was -1, must be a whole number",
        ),
        (
            "launcher: {stop_grace_s: 10s}",
            "launcher.stop_grace_s was '10s', must be a number above 0 and at most 86400;",
        ),
        ("launcher: {stop_grace_s: 10s}", "write the bare number of seconds"),
        ("launcher: {stop_grace_s: .inf}", "launcher.stop_grace_s was inf, must be a number above 0"),
        ("launcher: {stop_grace_s: .nan}", "launcher.stop_grace_s was nan, must be a number above 0"),
        ("launcher: {max_restarts: 1.5}", "launcher.max_restarts was 1.5, must be a whole number"),
        ("launcher: {max_restarts: true}", "launcher.max_restarts was true, must be a whole number"),
        ("launcher: {max_restarts: null}", "launcher.max_restarts was null, must be a whole number"),
        (
            "launcher: {backoff_first_s: 5, backoff_max_s: 1}",
            "launcher.backoff_max_s was 1.0, must be at least backoff_first_s 5.0; raise",
        ),
        ("launcher: 7", "launcher was 7, must be a mapping; write `key: value` lines"),
        ("ring_capacity: 100", "ring_capacity was 100, must be a power of two; write 128"),
        ("ring_capacity: 4", "ring_capacity was 4, must be a whole number at least 8 and at most 268435456"),
        ("board_rows: 60", "board_rows was 60, must exceed the 60 symbols; raise it"),
        ("idle: sleep", "idle was 'sleep', must be one of backoff, busy_spin, yield"),
        ("run_folder: ticks", "run_folder was 'ticks', must be an absolute path or begin with ~; write null"),
        ("recorder: {folder: x}", "recorder.folder was 'x', must be an absolute path"),
        ("recorder: {enabled: maybe}", "recorder.enabled was 'maybe', must be true or false; the default is false"),
        (
            "orders: {cancel_on_disconnect_ms: 0}",
            "orders.cancel_on_disconnect_ms was 0, must be a whole number at least 500 and at most 86400000",
        ),
        ("orders: {cancel_on_disconnect_ms: .nan}", "orders.cancel_on_disconnect_ms was nan, must be a whole number"),
        ("orders: {cancel_on_disconnect_ms: 5 s}", "write the bare number of milliseconds"),
        ("recorder: {rotate_bytes: 1}", "recorder.rotate_bytes was 1, must be a whole number at least 1048576"),
        ("cores: {recorder: 1}", "cores.recorder was 1, must be a list of a whole number"),
        ("cores: {recorder: [a]}", "cores.recorder[0] was 'a', must be a whole number"),
        ("cores: {Bad Name: [0]}", "cores: process name was 'Bad Name'"),
        ("cores: {nt8: [0]}", "cores.nt8 is not allowed: write `cores` under nt8 in platform_configs.yaml"),
        ("cores: {launcher: [0]}", "cores.launcher is not allowed: the launcher needs no core"),
        (
            "symbols: [{name: NQ, tick_size: 0.25}]",
            "symbols[0].tick_size was 0.25, must be an exact decimal number; write it",
        ),
        (
            'symbols: [{name: NQ, tick_size: "1E-999999999"}]',
            "symbols[0].tick_size was '1E-999999999', must have at most 12 decimals and lie within ±1000000000000",
        ),
        (
            'orders: {usd_rates: {BRL: "1E999999999"}}',
            "orders.usd_rates.BRL was '1E999999999', must have at most 12 decimals",
        ),
        (
            "symbols: [{name: NQ, tick_size: '0.2x'}]",
            "symbols[0].tick_size was '0.2x', must be an exact decimal number",
        ),
        ("symbols: [{name: NQ, tick_size: 'NaN'}]", "symbols[0].tick_size was 'NaN', must be an exact decimal number"),
        ("symbols: [{name: NQ, tick_size: '-1'}]", "symbols[0].tick_size was -1, must be above 0"),
        ("symbols: [{name: NQ}]", "symbols[0].tick_size is missing; add it: an exact decimal number"),
        ("symbols: [{name: '', tick_size: '1'}]", "symbols[0].name was empty"),
        ("symbols: [{name: 6, tick_size: '1'}]", "symbols[0].name was 6, must be text; put it in quotes"),
        (f"symbols: [{{name: {'N' * 33}, tick_size: '1'}}]", "must be at most 32 bytes"),
        ("symbols: [{name: A, tick_size: '1'}, {name: A, tick_size: '1'}]", "symbols was given 'A' twice"),
        ("symbols: [{name: NQ, tick_size: '0.25'}]", "symbols leaves out 6A, 6B"),
    ],
)
def test_a_fault_is_named_with_place_value_limit_and_cure(tmp_path: Path, gateway: str, fault: str) -> None:
    assert any(fault in line for line in faults(tmp_path, gateway)), faults(tmp_path, gateway)


@pytest.mark.parametrize(
    ("platforms", "fault"),
    [
        ("nt9: {}", "platform_configs.yaml:1: nt9 is not a known key; did you mean 'nt8'?"),
        ("nt8: {}", "nt8.adapter is missing; add it: text"),
        ("nt8: {}", "nt8.symbols is missing; add it: a list of text"),
        ("nt8: {adapter: x, symbols: []}", "nt8.adapter was 'x', must be 'module:Class'; for a simulation write"),
        ("nt8: {adapter: 'a:B', symbols: NQ}", "nt8.symbols was 'NQ', must be a list of text; write a list: [a, b]"),
        ("nt8: {adapter: 'a:B', symbols: [NQ, NQ]}", "nt8.symbols was given 'NQ' twice"),
        (
            "nt8: {adapter: 'a:B', symbols: [NQ, ZZ]}",
            "nt8.symbols[1] was 'ZZ', must be one of the symbols in gateway_config",
        ),
        ("nt8: {adapter: 'a:B', symbols: [], settings: 3}", "nt8.settings was 3, must be a mapping"),
        ("nt8: {adapter: 'a:B', symbols: [], cores: [-1]}", "nt8.cores[0] was -1, must be a whole number at least 0"),
    ],
)
def test_a_fault_of_a_platform_is_named(tmp_path: Path, platforms: str, fault: str) -> None:
    assert any(fault in line for line in faults(tmp_path, platforms=platforms)), faults(tmp_path, platforms=platforms)


def test_all_faults_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        "log_levl: 1\nlauncher:\n  max_restarts: -1\n  stop_grace_s: 0\n",
        "nt8: {adapter: 'a:B', symbols: NQ}\nmt6: {}\n",
    )
    assert [line.split(" ")[0] for line in found] == [
        "gateway_config.yaml:1:",
        "gateway_config.yaml:3:",
        "gateway_config.yaml:4:",
        "platform_configs.yaml:1:",
        "platform_configs.yaml:2:",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("launcher:\n  a: [1\nidle: yield\n", "gateway_config.yaml:3: not valid YAML at column 5: "),
        ("launcher:\n\tidle: yield\n", "gateway_config.yaml:2: not valid YAML at column 1: found character '\\t'"),
        ("a: 1\n--- \nb: 2\n", "not valid YAML"),
        ("idle: yield\nidle: backoff\n", "gateway_config.yaml:2: idle was given twice, allowed is once"),
        ("launcher:\n  x: {a: 1, a: 2}\n", "gateway_config.yaml:2: launcher.x.a was given twice"),
        ("- 1\n", "gateway_config.yaml:1: the file was a list, must be a mapping"),
        ("[1]: 2\n", "gateway_config.yaml:1: a key was a list or mapping, must be text"),
        ("idle: 2026-01-02\n", "gateway_config.yaml:1: idle was a date 2026-01-02; put it in quotes"),
        ("idle: !!python/object:os.system {}\n", "idle was tagged tag:yaml.org,2002:python/object:os.system, must"),
        ("idle: !!python/name:os.system x\n", "not valid YAML"),
        ("idle: yield\nlog_level: \x01\n", "gateway_config.yaml:2: holds the character #x0001; remove it"),
        ("idle: yield\nrollover: 2026-13-45\n", "gateway_config.yaml:2: rollover was 2026-13-45: month must be in"),
        ("launcher: {stop_grace_s: 0x_}\n", "launcher.stop_grace_s was 0x_: invalid literal"),
    ],
)
def test_yaml_faults_are_named_with_their_line(tmp_path: Path, text: str, fault: str) -> None:
    assert any(fault in line for line in faults(tmp_path, text)), faults(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"max_daily_loss_usd: 500", b"max_daily_loss_usd: 500\nmax_daily_loss_usd: 5000", "was given twice"),
        (b"max_daily_loss_usd: 500", b"max_daily_loss_usd: 0x_", "max_daily_loss_usd was 0x_: invalid literal"),
        (b"max_daily_loss_usd: 500", b"max_daily_loss_usd: \xb8", "is not UTF-8 at byte"),
    ],
)
def test_limits_are_read_as_strictly(tmp_path: Path, old: bytes, new: bytes, fault: str) -> None:
    shipped = (ROOT / "config" / "risk_limits.yaml").read_bytes()
    assert shipped.count(old) == 1
    (tmp_path / "risk_limits.yaml").write_bytes(shipped.replace(old, new))
    assert any("risk_limits.yaml" in line and fault in line for line in faults(tmp_path, "")), faults(tmp_path, "")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway_config.yaml").write_bytes(b"idle: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load_config(tmp_path)


def test_a_folder_without_files_is_not_taken_for_the_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has neither gateway_config.yaml nor platform_configs.yaml"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="must be an existing folder"):
        load_config(tmp_path / "missing")


def test_ring_and_board_limits_are_those_of_the_writer(tmp_path: Path, run_dir: Path) -> None:
    for key, value in (("ring_capacity", 4), ("ring_capacity", 1 << 29), ("board_rows", 0), ("board_rows", 65_537)):
        assert f"{key} was {value}" in faults(tmp_path, f"{key}: {value}")[0]
    for capacity, board_rows in ((4, 0), (1 << 29, 0), (8, 65_537)):
        with pytest.raises(ValueError, match="was"):
            TickWriter(run_dir, "x", Platform.SIM, capacity=capacity, board_rows=board_rows)


def test_a_configuration_lists_no_more_symbols_than_get_ids(tmp_path: Path, run_dir: Path) -> None:
    """Found out at `run`, it would be a traceback. Contracts of rolls need ids beside those of the configuration."""

    def listed(count: int) -> str:
        rows = ", ".join(f"{{name: S{number}, tick_size: '1'}}" for number in range(count))
        return f"symbols: [{rows}]\nboard_rows: 65536\n"

    platforms = f"nt8: {{adapter: '{SIMULATOR}', symbols: [S1]}}\n"
    fault, *_ = faults(tmp_path, listed(MAX_CONFIGURED + 1), platforms)
    assert f"symbols had {MAX_CONFIGURED + 1} entries, allowed are {MAX_CONFIGURED} (" in fault
    assert "remove" in fault
    config = load(tmp_path, listed(MAX_CONFIGURED), platforms)
    enter_symbols(run_dir, config)
    add_symbols(run_dir, [Symbol(0, f"C{number}") for number in range(IDS_FOR_CONTRACTS)])
    other = msgspec.structs.replace(config.symbols[0], name="X")
    changed = msgspec.structs.replace(config, symbols=(other, *config.symbols[1:]))
    with pytest.raises(RunFolderError, match="would hold 4096 symbols, at most 4095; stop the gateway, NEXUS"):
        enter_symbols(run_dir, changed)


def test_platform_keys_have_ids() -> None:
    assert [platform_of(key).key for key in PLATFORM_KEYS] == list(PLATFORM_KEYS)
    with pytest.raises(ValueError, match="platform was 'sim'; use one of mt5,"):
        platform_of("sim")


def test_symbol_entries_are_found_by_name() -> None:
    assert GatewayConfig().symbol("NQ").tick_size == Decimal("0.25")
    with pytest.raises(KeyError, match="ZZ"):
        GatewayConfig().symbol("ZZ")


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("nexus_gateway.adapters.mt5_global:Mt5GlobalAdapter", "nexus_gateway.adapters.mt5:Mt5GlobalAdapter"),
        ("nexus_gateway.adapters.mt5_brazil:Mt5BrazilAdapter", "nexus_gateway.adapters.mt5:Mt5BrazilAdapter"),
        ("nexus_gateway.adapters.simulator:SimulatorAdapter", "nexus_gateway.adapters.simulator:SimulatorAdapter"),
        ("nexus_gateway.adapters.replay:ReplayAdapter", "nexus_gateway.adapters.replay:ReplayAdapter"),
        ("nexus_gateway.adapters.bridge:BridgeAdapter", "nexus_gateway.adapters.bridge:BridgeAdapter"),
    ],
)
def test_adapters_keep_the_names_that_release_0_1_had(written, used):
    entry = PlatformConfig(adapter=written, symbols=("NQ",)).adapter
    assert entry == used
    assert load_entry(entry, "test").__name__ == used.partition(":")[2]
