"""The commands `symbols`, `contracts` and `rollover`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from nexus_gateway.core.cli.instruments import load_book
from nexus_gateway.core.instruments.catalog import load_catalog

from tests.support.commands import REPOSITORY, one_json_object, run_command


def test_symbols_says_what_a_platforms_name_means_and_why(tmp_path):
    ran = run_command(tmp_path, "symbols", "NQH25", "--json")
    assert ran.returncode == 0, ran.stderr
    text = "\n".join(one_json_object(ran.stdout)["symbols"]["NQH25"])
    for line in (
        "nt8: NQ 03-25",
        "sierra: NQH25_FUT_CME",
        "bookmap: NQH5.CME@RITHMIC",
        "mt5: NAS100 (NAS100 stands for NQ",
    ):
        assert line in text


@pytest.mark.parametrize(("name", "reason"), [("WIN$", "not_tradable"), ("NOSUCH", "symbol_unknown")])
def test_a_refused_name_is_exit_code_2_with_the_reason(tmp_path, name, reason):
    ran = run_command(tmp_path, "symbols", name)
    assert ran.returncode == 2
    assert reason in ran.stdout


def test_symbols_without_a_name_lists_the_catalog(tmp_path):
    listed = one_json_object(run_command(tmp_path, "symbols", "--json").stdout)["symbols"]
    assert set(listed) == set(load_catalog())
    assert not [name for name, lines in listed.items() if "refused" in lines[0]]


def test_contracts_are_iso_dates(tmp_path):
    rows = one_json_object(run_command(tmp_path, "contracts", "WIN", "--from", 2025, "--to", 2026, "--json").stdout)
    by_contract = {row["contract"]: row for row in rows["contracts"]}
    assert by_contract["WINQ25"]["maturity"] == "2025-08-13"
    assert by_contract["WINV26"]["last_session"] == "2026-10-14"
    assert len(by_contract) == 12
    assert "WINQ25" in run_command(tmp_path, "contracts", "WIN", "--from", 2025, "--to", 2025).stdout
    wrong = run_command(tmp_path, "contracts", "XX")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'XX'" in wrong.stderr
    assert run_command(tmp_path, "contracts", "ES", "--from", 2026, "--to", 2025).returncode == 2
    assert run_command(tmp_path, "contracts", "ES", "--from", 2100).returncode == 2  # the rules reach to 2099
    ends = one_json_object(run_command(tmp_path, "contracts", "ES", "--from", 2099, "--to", 2099, "--json").stdout)
    assert ends["contracts"][3]["last_session"] == "2099-12-18"


def test_the_roll_plan_lies_ahead_and_in_order(tmp_path):
    until = datetime.now(UTC).date() + timedelta(days=200)
    plan = one_json_object(run_command(tmp_path, "rollover", "--until", until, "--json").stdout)
    switches = [row["switch_at"] for row in plan["rolls"]]
    assert switches == sorted(switches)
    assert {row["root"] for row in plan["rolls"]} >= {"ES", "NQ", "CL", "GC", "WIN", "WDO"}
    assert all(date.fromisoformat(row["roll_date"]) <= until for row in plan["rolls"])
    past = run_command(tmp_path, "rollover", "--until", "2020-01-01")
    assert past.returncode == 2
    assert "2020-01-01" in past.stderr


OWN_INSTRUMENT = """
instruments:
  - symbol: NAS100
    kind: cfd
    description: Nasdaq-100 CFD of my broker
    exchange: OTC
    currency: USD
    tick: "0.01"
    point_value: "20"
    sessions: cfd_index
    lot_step: "0.01"
    min_lots: "0.01"
  - symbol: XNQ
    kind: future
    description: a future of mine
    exchange: CME
    currency: USD
    tick: "0.25"
    point_value: "20"
    sessions: cme_equity
    future:
      months: HMUZ
      expiry: {rule: third_friday, holidays: us_stocks}
      roll: {rule: before_last_session, sessions: 3}
"""
OWN_HOURS = """
sessions:
  b3_dollar:
    timezone: America/Sao_Paulo
    day_boundary: "18:30:00"
    holidays: b3
    hours:
      - {from: 2000-01-01, open: "09:00:00", close: "18:00:00"}
"""


def test_contracts_and_plan_of_a_configuration_are_those_of_its_gateway(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN_INSTRUMENT)
    (tmp_path / "hours.yaml").write_text(OWN_HOURS)
    (tmp_path / "gateway_config.yaml").write_text(
        f"""
orders: {{instruments_file: {tmp_path / "own.yaml"}, hours_file: {tmp_path / "hours.yaml"}}}
rollover: {{policy: roll, before_end_s: 600, dates: {{NQZ30: "2030-12-10"}}}}
"""
    )
    rows = one_json_object(run_command(tmp_path, "contracts", "XNQ", "--from", 2027, "-c", tmp_path, "--json").stdout)
    assert rows["contracts"][1] == {
        "contract": "XNQM27",
        "last_session": "2027-06-17",
        "maturity": "2027-06-17",
        "roll_date": "2027-06-14",
        "in_roll": True,
    }
    asked = ("rollover", "--until", "2030-12-31", "--root", "NQ", "--root", "WDO", "--json")
    own = one_json_object(run_command(tmp_path, *asked, "-c", tmp_path).stdout)["rolls"]
    shipped = one_json_object(run_command(tmp_path, *asked).stdout)["rolls"]
    dates = [{row["old"]: row["switch_at"] for row in rolls} for rolls in (own, shipped)]
    assert dates[0]["NQZ30"] == "2030-12-09T22:00:00+00:00"
    assert dates[1]["NQZ30"] == "2030-12-15T22:00:00+00:00"
    # The dollar's contract ends: positions are rolled ten minutes before its own close, 18:00 in Sao Paulo.
    assert dates[0]["WDOZ30"] == "2030-11-29T20:50:00+00:00"
    assert dates[1]["WDOZ30"] == "2030-11-29T21:30:00+00:00"
    for command in (("rollover",), ("contracts", "NQ"), ("symbols", "NQ")):
        wrong = run_command(tmp_path, *command, "-c", tmp_path / "nowhere")
        assert (wrong.returncode, "nowhere" in wrong.stderr) == (2, True), command
    (tmp_path / "own.yaml").write_text("instruments: 3")
    refused = run_command(tmp_path, "contracts", "XNQ", "-c", tmp_path)
    assert refused.returncode == 2
    assert "own.yaml" in refused.stderr


def test_the_embedded_mapping_is_the_shipped_one(tmp_path):
    shipped = REPOSITORY / "config" / "symbol_mappings.json"
    embedded = REPOSITORY / "core" / "instruments" / "symbol_mappings.json"
    assert shipped.read_text() == embedded.read_text()
    book = load_book(Path(tmp_path), load_catalog())  # a folder without one falls back
    assert book.parse("NQ 03-25", "nt8").contract is not None
