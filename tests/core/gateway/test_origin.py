"""The journal holds what configuration, limits and author each start had."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
from nexus_gateway.core.config import GatewayConfig
from nexus_gateway.core.config.origin import find_origin, hash_settings
from nexus_gateway.core.journal import export

from tests.support.trading_floor import Floor


def test_settings_of_the_same_content_have_the_same_hash():
    config = GatewayConfig()
    again = msgspec.json.decode(msgspec.json.encode(config), type=GatewayConfig)
    assert hash_settings(config) == hash_settings(again)
    assert len(hash_settings(config)) == 32
    turned = msgspec.structs.replace(config, platforms=dict(reversed(config.platforms.items())))
    assert hash_settings(turned) == hash_settings(config)
    other = msgspec.structs.replace(config.limits, max_daily_loss_usd=Decimal(501))
    assert hash_settings(other) != hash_settings(config.limits)


def starts(floor: Floor) -> list[dict[str, str]]:
    rows = [json.loads(line) for line in export(floor.config.journal_path)]
    return [row["content"] for row in rows if row["kind"] == "started"]


def test_each_start_is_journaled_with_hashes_and_author():
    floor = Floor(("nt8",))
    try:
        first = floor.config
        floor.start()
        floor.until(lambda: floor.counters().get("stage"))
        floor.kill()
        floor.config = msgspec.structs.replace(
            first, limits=msgspec.structs.replace(first.limits, max_daily_loss_usd=Decimal(7))
        )
        floor.start()
        floor.until(lambda: len(starts(floor)) == 2)
        started = starts(floor)
    finally:
        floor.close()
    for row, config in zip(started, (first, floor.config), strict=True):
        origin = find_origin(config)
        said = {name: row[name] for name in ("config_hash", "limits_hash", "author")}
        assert said == msgspec.to_builtins(origin)
        assert "@" in origin.author
    assert started[0]["limits_hash"] != started[1]["limits_hash"]
