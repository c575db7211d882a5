"""Which accounts may be traded: read by adapter and gateway, from one definition."""

from __future__ import annotations

from pathlib import Path

import pytest
from nexus_gateway.core.config import PlatformConfig, TradingSettings, load_config
from nexus_gateway.core.errors import ConfigError

REAL = {"accounts": ("LIVE-1", "LIVE-2")}


@pytest.mark.parametrize(
    ("settings", "account", "text"),
    [
        ({}, "PAPER-nt8", ""),
        ({"orders": "paper"}, "PAPER-nt8", ""),
        ({"orders": "paper"} | REAL, "PAPER-nt8", ""),
        ({"orders": "platform"} | REAL, "LIVE-2", ""),
        ({"orders": "external"} | REAL, "LIVE-1", ""),
        (
            {},
            "LIVE-1",
            "account was 'LIVE-1', must be 'PAPER-nt8': platform_configs.yaml: nt8.settings.orders is not set",
        ),
        ({"orders": "paper"} | REAL, "LIVE-1", "nt8.settings.orders is paper; for real orders write orders: platform"),
        ({"orders": "paper"}, "PAPER-mt5", "must be 'PAPER-nt8'"),
        ({"orders": "none"}, "LIVE-1", "but platform_configs.yaml: nt8.settings.orders is none, market data only"),
        ({"orders": "none"}, "PAPER-nt8", "market data only"),
        ({"orders": "platform"} | REAL, "PAPER-nt8", "accounts: 'LIVE-1', 'LIVE-2'; log in to one of them"),
        (
            {"orders": "platform"} | REAL,
            "DEMO",
            "account was 'DEMO', must be one of platform_configs.yaml: nt8.settings",
        ),
        ({"orders": "external"} | REAL, "DEMO", "or add it there"),
    ],
)
def test_an_account_is_refused_by_its_name_with_what_is_configured_and_the_cure(settings, account, text):
    said = TradingSettings(**settings).refuse_account("nt8", account)
    assert bool(said) is bool(text)
    assert text in said


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("orders: platform", "platform_configs.yaml:5: nt8.settings.accounts was empty, real orders need"),
        ("orders: external", "nt8.settings.accounts was empty"),
        (
            "orders: real",
            "platform_configs.yaml:5: nt8.settings.orders was 'real', must be one of external, none, paper",
        ),
        ("accounts: [PAPER-nt8]", "nt8.settings.accounts had 'PAPER-nt8', must name real accounts"),
        (
            r'accounts: ["LIVE\u202e1"]',
            r"nt8.settings.accounts[0] was 'LIVE\u202e1', must be text without control",
        ),
        (r'accounts: ["LIVE\x1b[2J"]', r"accounts[0] was 'LIVE\x1b[2J', must be text without control, format and"),
        (
            r'"acc\u200bounts": [A]',
            r":5: a key in nt8.settings was 'acc\u200bounts', must be text",
        ),
        (r'accounts: ["A\n"]', r"accounts[0] was 'A\n', must be text without control, format and bidirectional"),
        ("accounts: [7]", "nt8.settings.accounts[0] was 7, must be text"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line_when_the_files_are_read(tmp_path: Path, line: str, text: str):
    (tmp_path / "platform_configs.yaml").write_text(
        f"nt8:\n  adapter: a:B\n  symbols: [NQ]\n  settings:\n    {line}\n    anything: of the adapter\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert text in str(caught.value)


def test_other_settings_are_the_adapters_own_matter():
    entry = PlatformConfig(adapter="a:B", symbols=(), settings={"orders": "none", "port": 9001, "limits": {}})
    assert entry.trading == TradingSettings(orders="none")
