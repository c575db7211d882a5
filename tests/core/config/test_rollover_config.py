"""The rollover section: dates are parsed exactly, and entries that would have no effect are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from nexus_gateway.core.config import GatewayConfig, RolloverConfig
from nexus_gateway.core.engine import ContractRecord
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.gateway.markets import Markets
from nexus_gateway.core.gateway.rolls import LiveContracts
from nexus_gateway.core.gateway.rolls import live_contracts as gateway_contracts
from nexus_gateway.core.instruments.contract_code import parse_code
from nexus_gateway.core.launcher.configured_symbols import enter_symbols
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm import symbols
from nexus_gateway.shm.segment import SegmentInUseError, SegmentState
from nexus_gateway.shm.symbols import DirectoryFullError, Symbol, SymbolDirectory, add_symbols


def live(folder: Path, contract: str = "", **rollover: object) -> Markets:
    config = GatewayConfig(run_folder=str(folder), rollover=RolloverConfig(**rollover))  # type: ignore[arg-type]  # varied
    symbols = tuple(
        msgspec.structs.replace(each, contract=contract) if each.name == "NQ" else each for each in config.symbols
    )
    config = msgspec.structs.replace(config, symbols=symbols)
    markets = Markets(config, folder)
    LiveContracts(config, folder, markets, process_log("test"))
    return markets


def test_own_dates_and_moments_hold(tmp_path: Path) -> None:
    moment = "2027-03-12T15:00:00+00:00"
    markets = live(tmp_path, dates={"ESH27": "2027-03-12"}, switch_at={"NQH27": moment})
    contracts = [parse_code("ESH27"), parse_code("NQH27")]
    assert [str(markets.rollover.roll_date(each)) for each in contracts if each] == ["2027-03-12", "2027-03-12"]
    assert contracts[1] is not None
    assert markets.rollover.switch_at(contracts[1]) == datetime(2027, 3, 12, 15, tzinfo=UTC)
    assert markets.rollover.front_contract("NQ", datetime(2027, 3, 12, 14, 59, tzinfo=UTC)).code == "NQH27"
    assert markets.rollover.front_contract("NQ", datetime(2027, 3, 12, 15, tzinfo=UTC)).code == "NQM27"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dates": {"NQ": "2027-03-12"}}, "was 'NQ'"),
        ({"dates": {"NQF27": "2027-01-12"}}, "its months are HMUZ"),
        ({"dates": {"XXH27": "2027-03-12"}}, "was 'XXH27'"),
        ({"dates": {"NQH27": "2027-04-12"}}, "after its last session"),
        ({"switch_at": {"NQH27": "2027-04-12T00:00:00+00:00"}}, "after the end of its last session"),
        ({"contract": "ESH27"}, "contract of NQ was 'ESH27'"),
        ({"contract": "NQ 03-27"}, "contract of NQ was 'NQ 03-27'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(tmp_path: Path, changes: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        live(tmp_path, **changes)


@pytest.mark.parametrize(
    "changes", [{"dates": {"NQH27": "12.3.2027"}}, {"switch_at": {"NQH27": "2027-03-12T15:00:00"}}]
)
def test_times_need_their_form_and_their_zone(changes: dict) -> None:
    with pytest.raises(ValueError, match="NQH27 was"):
        RolloverConfig(**changes)


def test_a_run_folder_made_anew_knows_the_contract_before_from_the_journal(tmp_path: Path) -> None:
    """A position may still stand on it: without a name of its own it would go under the root's, with the next month."""
    add_symbols(tmp_path, [Symbol(0, "NQ"), Symbol(0, "ES")])
    config = GatewayConfig(run_folder=str(tmp_path))
    contracts = LiveContracts(config, tmp_path, Markets(config, tmp_path), process_log("test"))
    in_december_ns = int(datetime(2026, 12, 15, tzinfo=UTC).timestamp()) * 1_000_000_000
    decided = {
        "NQ": ContractRecord(contract="NQH27", previous="NQZ26"),
        "ES": ContractRecord(contract="ESH27", previous="ESU26"),  # has expired: nothing stands on it
    }
    contracts.apply(decided, in_december_ns)
    entries = {entry.name: entry.contract for entry in SymbolDirectory.attach(tmp_path).entries()}
    assert entries == {"NQ": "NQH27", "ES": "ESH27", "NQZ26": "NQZ26"}


@pytest.mark.parametrize("fault", [SegmentInUseError("held", SegmentState.LIVE), DirectoryFullError("full")])
def test_a_directory_that_takes_no_symbol_for_a_moment_delays_the_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """It must not end the gateway, and the next contract must be subscribed all the same."""
    add_symbols(tmp_path, [Symbol(0, "NQ", "NQZ26")])
    config = GatewayConfig(run_folder=str(tmp_path))
    contracts = LiveContracts(config, tmp_path, Markets(config, tmp_path), process_log("test"))
    decided = {"NQ": ContractRecord(contract="NQZ26")}
    day_before_ns = int(datetime(2026, 12, 13, 12, tzinfo=UTC).timestamp()) * 1_000_000_000

    def held(*_: object) -> list[int]:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(gateway_contracts, "add_symbols", held)
        contracts.step(day_before_ns, decided, {})
    assert SymbolDirectory.attach(tmp_path).id_of("NQH27") is None
    contracts.step(day_before_ns + 1_000_000_000, decided, {})
    directory = SymbolDirectory.attach(tmp_path)
    assert [entry.contract for entry in directory.entries()] == ["NQZ26", "NQH27"]


@pytest.mark.parametrize("broken", ["NQ", "NQZ26"])
def test_an_entry_that_was_left_half_written_by_kill_9_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Else the gateway would find it at each of its starts, and die of it."""
    add_symbols(tmp_path, [Symbol(0, "NQ", "NQZ26", 0.25), Symbol(0, "NQZ26", "", 0.25)])
    monkeypatch.setattr(symbols, "_PATIENCE_S", 0.01)
    segment = symbols._open(tmp_path)
    directory = SymbolDirectory(segment)
    symbol_id = directory.id_of(broken)
    assert symbol_id is not None
    directory._entries[symbol_id]["revision"] += 1
    segment.close_writer()
    config = GatewayConfig(run_folder=str(tmp_path))
    config = msgspec.structs.replace(config, symbols=tuple(each for each in config.symbols if each.name == "NQ"))
    markets = Markets(config, tmp_path)
    markets.boards.refresh([])
    assert markets.boards.contract("NQ") == ("" if broken == "NQ" else "NQZ26")
    contracts = LiveContracts(config, tmp_path, markets, process_log("test"))
    decided = {"NQ": ContractRecord(contract="NQH27", previous="NQZ26")}
    contracts.apply(decided, int(datetime(2026, 12, 15, tzinfo=UTC).timestamp()) * 1_000_000_000)
    entries = {entry.name: entry.contract for entry in SymbolDirectory.attach(tmp_path).entries()}
    assert entries == {"NQ": "NQH27", "NQZ26": "NQZ26"}
    segment = symbols._open(tmp_path)
    SymbolDirectory(segment)._entries[1]["revision"] += 1
    segment.close_writer()
    enter_symbols(tmp_path, config)  # the next launcher, while a reader keeps the folder
    assert SymbolDirectory.attach(tmp_path).entry(1).contract == ""
