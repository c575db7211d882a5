"""`convert_settings`: types that an adapter's settings may have, and the messages for their faults."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct
from nexus_gateway.core.config import convert_settings
from nexus_gateway.core.errors import ConfigError

WHERE = "platform_configs.yaml: nt8.settings"


class Account(Struct, frozen=True, kw_only=True):
    name: str
    lots: dict[str, Decimal] = {}


class Settings(Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)]
    timeout_ms: int = 1000
    mode: Literal["live", "paper"] = "paper"
    token: str | None = None
    accounts: tuple[Account, ...] = ()
    notes: list[str] = []
    rate: Annotated[float, Meta(gt=0)] | None = None
    kind: Annotated[str, Meta(pattern="^[a-z]+$")] = "x"
    anything: Any = None

    def __post_init__(self) -> None:
        if self.mode == "live" and self.token is None:
            raise ValueError("token was null, must be given in mode live; copy it from the bridge")
        if self.port == 13:
            raise ValueError("that port brings bad luck")


def convert(**mapping: Any) -> Settings:
    return convert_settings(Settings, mapping, WHERE)


def fault(**mapping: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        convert(**mapping)
    return str(raised.value)


def test_converts_nested_structs_and_exact_numbers() -> None:
    settings = convert(port=9001, rate=2, notes=["a"], accounts=[{"name": "sim", "lots": {"NQ": "0.1", "ES": 2}}])
    assert settings.accounts == (Account(name="sim", lots={"NQ": Decimal("0.1"), "ES": Decimal(2)}),)
    assert (settings.rate, settings.notes, settings.host) == (2.0, ["a"], "127.0.0.1")


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({}, "port is missing; add it: a whole number at least 1 and at most 65535"),
        ({"port": 0}, "port was 0, must be a whole number at least 1 and at most 65535; correct it"),
        (
            {"port": "9001"},
            "port was '9001', must be a whole number at least 1 and at most 65535; write the bare number",
        ),
        (
            {"port": 1, "timeout_ms": "5"},
            "timeout_ms was '5', must be a whole number; write the bare number of milliseconds",
        ),
        ({"port": 1, "prot": 2}, "prot is not a known key; did you mean 'port'?"),
        ({"port": 1, "mode": "real"}, "mode was 'real', must be one of live, paper; the default is 'paper'"),
        ({"port": 1, "rate": 0}, "rate was 0, must be a number above 0; correct it"),
        ({"port": 1, "kind": "X1"}, "kind was 'X1', must be text matching ^[a-z]+$; the default is 'x'"),
        ({"port": 1, "anything": float("inf")}, "anything was inf, must be any; correct it"),
        (
            {"port": 1, "accounts": [{"name": "a", "lots": {"NQ": 0.1}}]},
            "accounts[0].lots.NQ was 0.1, must be an exact",
        ),
        ({"port": 1, "accounts": ["a"]}, "accounts[0] was 'a', must be a mapping; write `key: value` lines"),
        ({"port": 1, "mode": "live"}, "token was null, must be given in mode live; copy it from the bridge"),
    ],
)
def test_names_key_value_limit_and_cure(mapping: dict[str, Any], text: str) -> None:
    assert fault(**mapping).startswith(f"{WHERE}: {text}")


def test_a_rule_that_names_no_key_is_told_for_the_whole() -> None:
    assert fault(port=13) == f"{WHERE}: that port brings bad luck"
    with pytest.raises(ConfigError, match=r"nt8.settings was 3, must be a mapping"):
        convert_settings(Settings, 3, WHERE)  # type: ignore[arg-type]


def test_tells_all_faults() -> None:
    assert len(fault(port=0, mode=1, extra=2, accounts=[{"nam": "x"}, {"name": 3}]).split("\n")) == 6


def test_never_shows_a_secret() -> None:
    assert fault(port=1, token=123456) == f"{WHERE}: token was (hidden), must be text; put it in quotes"
