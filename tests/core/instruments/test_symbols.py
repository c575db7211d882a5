"""Platform names both ways: the forms of each platform, round trips, refusals, reload."""

import json
import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.contract_code import Contract
from nexus_gateway.core.instruments.refusals import InstrumentRefused, SymbolRefused
from nexus_gateway.core.instruments.symbol_mapping import PLATFORMS
from nexus_gateway.core.instruments.symbols import SymbolBook, SymbolFile

CATALOG = load_catalog()
MAPPING = Path(__file__).resolve().parents[3] / "config" / "symbol_mappings.json"
BOOK = SymbolFile(MAPPING, CATALOG).book
NQH25 = Contract("NQ", 2025, 3)
ON = date(2025, 2, 3)


@pytest.mark.parametrize(
    ("platform", "connection", "target", "name"),
    [
        ("nt8", None, NQH25, "NQ 03-25"),
        ("nt8", None, Contract("6E", 2026, 12), "6E 12-26"),
        ("sierra", None, NQH25, "NQH25_FUT_CME"),
        ("sierra", "older", NQH25, "NQH25-CME"),
        ("sierra", "older", Contract("CL", 2025, 4), "CLJ25-NYMEX"),
        ("sierra", "plain", NQH25, "NQH25"),
        ("sierra", "rithmic", NQH25, "NQH5.CME"),
        ("sierra", "cqg", Contract("MES", 2025, 6), "F.US.MESM25"),
        ("bookmap", None, NQH25, "NQH5.CME@RITHMIC"),
        ("bookmap", None, Contract("YM", 2025, 3), "YMH5.CBOT@RITHMIC"),
        ("bookmap", "bmd", NQH25, "NQH5.CME@BMD"),
        ("quantower", None, NQH25, "NQH5"),
        ("quantower", "amp", NQH25, "NQH25"),
        ("quantower", "cqg", NQH25, "ENQH25"),
        ("quantower", "dxfeed", NQH25, "/NQH25:XCME"),
        ("mt5", None, NQH25, "NAS100"),
        ("mt5", None, "NQ", "NAS100"),
        ("mt5", None, "XAUUSD", "XAUUSD"),
        ("mt5", "cqg_future", NQH25, "ENQH25"),
        ("mt5_br", None, Contract("WIN", 2026, 8), "WINQ26"),
        ("mt5_br", None, Contract("WDO", 2026, 7), "WDON26"),
    ],
)
def test_the_names_that_platforms_use(platform, connection, target, name):
    assert BOOK.name_of(platform, target, connection).name == name


def test_a_cfd_answer_carries_its_own_instrument():
    symbol = BOOK.name_of("mt5", NQH25)
    assert (symbol.instrument, symbol.contract) == ("NAS100", None)
    assert "stands for NQ" in symbol.why


LISTED = [(instrument.symbol, month) for instrument in CATALOG.futures() for month in instrument.terms.listed_months()]


def offered(platform, contract, connection):
    """Whether the platform should have a name: decided from the file, not by asking the code under test."""
    entry = BOOK.mapping.platforms[platform]
    if connection is None and contract.root in entry.stands_for:
        return True
    form = entry.forms.get(connection or entry.default or "")
    if form is None or CATALOG[contract.root].exchange not in form.exchanges:
        return False
    return "{root:cqg}" not in form.name or contract.root in BOOK.mapping.roots["cqg"]


@given(st.sampled_from(PLATFORMS), st.sampled_from(LISTED), st.integers(2020, 2035), st.data())
def test_names_round_trip_for_every_platform_root_and_month(platform, listed, year, data):
    """A name is read within a year of its expiry, as live names are; one-digit years need no more."""
    root, month = listed
    contract = CATALOG.contract(root, year, month)
    connection = data.draw(st.sampled_from([None, *BOOK.mapping.platforms[platform].forms]))
    if not offered(platform, contract, connection):
        with pytest.raises(SymbolRefused, match="no name for"):
            BOOK.name_of(platform, contract, connection)
        return
    written = BOOK.name_of(platform, contract, connection)
    on = date(year, data.draw(st.integers(1, 12)), 1)
    read = BOOK.parse(written.name, platform, on)
    assert (read.instrument, read.contract) == (written.instrument, written.contract)
    if written.contract is not None:
        assert written.contract == contract
        again = BOOK.name_of(platform, read.contract, connection)
    else:
        again = BOOK.name_of(platform, read.instrument)
    assert again.name == written.name


def test_every_required_root_has_a_name_where_its_exchange_is_offered():
    for instrument in CATALOG.futures():
        contract = Contract(instrument.symbol, 2026, instrument.terms.front_months()[0])
        platforms = ["mt5_br"] if instrument.exchange == "B3" else ["nt8", "sierra", "bookmap", "quantower"]
        for platform in platforms:
            assert BOOK.name_of(platform, contract).contract == contract


@pytest.mark.parametrize(
    ("name", "platform", "meaning"),
    [
        ("NQH5", "quantower", "NQH25"), ("NQH2025", "quantower", "NQH25"), ("NQ 03-2025", "nt8", "NQH25"),
        ("NQ 3-25", "nt8", None), ("nqh25", "quantower", None), ("NQH5.NYMEX@RITHMIC", "bookmap", None),
        ("MNQH5", "quantower", "MNQH25"), ("M2KH5", "quantower", "M2KH25"), ("6EH5", "quantower", "6EH25"),
        ("MESM25", "quantower", "MESM25"), ("ZNH25", "quantower", "ZNH25"), ("SILH25", "quantower", "SILH25"),
        ("EPH25", "quantower", "ESH25"), ("CLEF25", "quantower", "CLF25"), ("EU6H5", "quantower", "6EH25"),
        ("TYAH25", "quantower", "ZNH25"), ("NQH25", "mt5", "NQH25"), ("ENQH25", "mt5", "NQH25"),
        ("US100", "mt5", "NAS100"), ("USTEC", "mt5", "NAS100"), ("NAS100.cash", "mt5", "NAS100"),
        ("US100.m", "mt5", "NAS100"), ("XAUUSDm", "mt5", "XAUUSD"), ("GOLD", "mt5", "XAUUSD"),
        ("NAS100.unheard", "mt5", None), ("EURUSD", "nt8", None),
        ("WINV25_71R", "mt5_br", None), ("WINQ6", "mt5_br", "WINQ26"), ("NQH25", "mt5_br", None),
        ("@NQH25", None, "NQH25"), ("QCLF25", None, "CLF25"), ("CME_MINI:NQH2025", None, "NQH25"),
        ("BMFBOVESPA:WINQ2026", None, "WINQ26"), ("NQH25", None, "NQH25"), ("", None, None), ("NQ", "nt8", None),
        ("NQH\uff12\uff15", "quantower", None), ("NQ 03-\u0662\u0665", "nt8", None),
    ],
)  # fmt: skip
def test_names_are_read_or_refused(name, platform, meaning):
    if meaning is None:
        with pytest.raises(SymbolRefused) as refused:
            BOOK.parse(name, platform, ON)
        assert refused.value.code == "symbol_unknown"
    else:
        symbol = BOOK.parse(name, platform, ON)
        assert (symbol.contract.code if symbol.contract else symbol.instrument) == meaning


@pytest.mark.parametrize("name", ["WIN$", "WIN$N", "WIN@D", "WDO$", "DOL@", "WINFUT", "WI1Q25V25", "NQ1!"])
def test_series_and_rolls_are_never_tradable(name):
    with pytest.raises(SymbolRefused) as refused:
        BOOK.parse(name, "mt5_br", ON)
    assert refused.value.code == "symbol_not_tradable"


def test_the_continuous_name_of_ninjatrader_is_not_tradable():
    with pytest.raises(SymbolRefused, match="NQ 03-25"):
        BOOK.parse("NQ ##-##", "nt8", ON)


def test_a_month_that_is_not_listed_is_refused_by_name():
    for name in ("NQF25", "NQF2025"):
        with pytest.raises(InstrumentRefused, match="HMUZ"):
            BOOK.parse(name, "quantower", ON)
    with pytest.raises(InstrumentRefused, match="2000-2099"):
        BOOK.parse("NQH1999", "quantower", ON)


def test_a_one_digit_year_without_a_date_is_ambiguous():
    with pytest.raises(SymbolRefused, match="NQH15 or NQH25 or NQH35") as refused:
        BOOK.parse("NQH5", "quantower")
    assert refused.value.code == "symbol_ambiguous"
    assert refused.value.candidates == ("NQH15", "NQH25", "NQH35")


def book_with(change):
    raw = json.loads(MAPPING.read_text(encoding="utf-8"))
    change(raw)
    return raw


def test_a_name_with_two_meanings_is_refused_with_both(tmp_path):
    """One vendor's root for the euro is another's for the pound: only the user knows which feed it is."""

    def change(raw):
        raw["roots"]["other"] = {"6B": "EU6"}
        forms = raw["platforms"]["quantower"]["forms"]
        forms["other"] = {"name": "{root:other}{M}{YY}", "exchanges": ["CME"]}

    path = tmp_path / "symbols.json"
    path.write_text(json.dumps(book_with(change)))
    book = SymbolFile(path, CATALOG).book
    with pytest.raises(SymbolRefused, match="6BH25 or 6EH25") as refused:
        book.parse("EU6H25", "quantower", ON)
    assert refused.value.code == "symbol_ambiguous"
    assert refused.value.candidates == ("6BH25", "6EH25")


def test_an_undated_name_with_two_meanings_is_refused_with_both(tmp_path):
    def change(raw):
        raw["platforms"]["mt5"]["instruments"]["XAGUSD"]["aliases"] = ["GOLDx"]
        raw["platforms"]["mt5"]["suffixes"] = ["y", "xy"]

    path = tmp_path / "symbols.json"
    path.write_text(json.dumps(book_with(change)))
    book = SymbolFile(path, CATALOG).book
    with pytest.raises(SymbolRefused) as refused:
        book.parse("GOLDxy", "mt5", ON)
    assert refused.value.candidates == ("XAGUSD", "XAUUSD")


EXTRA_ROOT = """
  - symbol: "{root}"
    kind: future
    description: test
    exchange: CME
    currency: USD
    tick: "1"
    point_value: "1"
    sessions: cme_equity
    future: {{months: FGHJKMNQUVXZ, expiry: {{rule: third_friday, holidays: us_stocks}}, roll: {{rule: cme_index}}}}
"""


def test_longest_root_wins(tmp_path):
    """A12 + 03 + 25 also reads as A + 12 + the year 0325; M2K + H5 begins like M2."""
    user = tmp_path / "mine.yaml"
    user.write_text("instruments:" + "".join(EXTRA_ROOT.format(root=root) for root in ("A", "A12", "M2")))
    catalog = load_catalog(user)

    def change(raw):
        raw["platforms"]["quantower"]["forms"]["digits"] = {"name": "{root}{MM}{YY}", "exchanges": ["CME"]}

    path = tmp_path / "symbols.json"
    path.write_text(json.dumps(book_with(change)))
    book = SymbolFile(path, catalog).book
    assert book.parse("A120325", "quantower", ON).contract == Contract("A12", 2025, 3)
    assert book.parse("A0325", "quantower", ON).contract == Contract("A", 2025, 3)
    assert book.parse("M2KH5", "quantower", ON).contract == Contract("M2K", 2025, 3)
    assert book.parse("M2K5", "quantower", ON).contract == Contract("M2", 2025, 5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda raw: raw.update(version=2), "version was 2"),
        (lambda raw: raw.update(extra=1), "extra"),
        (lambda raw: raw["platforms"].update(mt6={"forms": {}}), "mt6"),
        (lambda raw: raw["platforms"]["nt8"].update(default="x"), "default was 'x'"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(name="{root} {MM}"), "needs one {root}"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(name="{root}{M}{YY}{x}"), "unknown field"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(name="{root:no}{M}{YY}"), "root table was 'no'"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(exchanges=["MARS"]), "MARS"),
        (lambda raw: raw["platforms"]["mt5"]["stands_for"].update(QQ="NAS100"), "QQ"),
        (lambda raw: raw["platforms"]["mt5"]["stands_for"].update(NQ="DAX"), "DAX"),
        (lambda raw: raw["platforms"]["mt5"]["instruments"].update(NQ={"name": "NQ"}), "not a CFD"),
        (lambda raw: raw["platforms"]["mt5"]["instruments"]["US30"].update(aliases=["GOLD"]), "both US30 and XAUUSD"),
        (lambda raw: raw["roots"]["cqg"].update(ES="ENQ"), "both written ENQ"),
        (lambda raw: raw["roots"]["cqg"].update(QQ="X"), "QQ"),
        (lambda raw: raw["roots"]["cqg"].update(ES=""), "as nothing"),
        (lambda raw: raw["exchanges"]["mic"].update(CME=""), "as nothing"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(name="{M}{YY}{root}"), "needs one {root}"),
        (lambda raw: raw["platforms"]["nt8"]["forms"]["nt8"].update(
            name="{root}{M}{YY}{exchange}{exchange}"), "{exchange} twice"),
        (lambda raw: raw["platforms"]["mt5"]["instruments"].update(US30={"name": ""}), "empty name"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_whole_and_the_old_one_stays(tmp_path, change, complaint):
    path = tmp_path / "symbols.json"
    path.write_text(MAPPING.read_text(encoding="utf-8"), encoding="utf-8")
    symbols = SymbolFile(path, CATALOG)
    before = symbols.book
    path.write_text(json.dumps(book_with(change)), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"symbols\.json") as refused:
        symbols.reload()
    assert complaint in str(refused.value)
    assert symbols.book is before
    assert symbols.book.name_of("nt8", NQH25).name == "NQ 03-25"


@pytest.mark.parametrize("text", ["", "{", '{"version": 1, "version": 1, "platforms": {}}', "[]"])
def test_broken_json_is_refused(tmp_path, text):
    path = tmp_path / "symbols.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"symbols\.json"):
        SymbolFile(path, CATALOG)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_refused_and_the_old_one_stays(tmp_path, encoding):
    path = tmp_path / "symbols.json"
    path.write_bytes(MAPPING.read_bytes())
    symbols = SymbolFile(path, CATALOG)
    before = symbols.book
    path.write_bytes(MAPPING.read_text(encoding="utf-8").replace("mt5_br", "mt5_b\u00e9").encode(encoding))
    with pytest.raises(ConfigError, match="not UTF-8"):
        symbols.reload()
    assert symbols.book is before


def test_the_mark_that_windows_editors_write_is_no_fault(tmp_path):
    path = tmp_path / "symbols.json"
    path.write_bytes(MAPPING.read_text(encoding="utf-8").encode("utf-8-sig"))
    assert SymbolFile(path, CATALOG).book.name_of("nt8", NQH25).name == "NQ 03-25"


def test_reload_says_what_changed(tmp_path):
    path = tmp_path / "symbols.json"
    path.write_text(MAPPING.read_text(encoding="utf-8"), encoding="utf-8")
    symbols = SymbolFile(path, CATALOG)
    assert symbols.reload_if_changed() == ()

    def change(raw):
        raw["platforms"]["mt5"]["instruments"]["NAS100"]["name"] = "USTEC.cash"
        del raw["platforms"]["bookmap"]["forms"]["bmd"]
        raw["platforms"]["mt5"]["suffixes"] = [".cash"]

    path.write_text(json.dumps(book_with(change)), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    changes = {each.path: (each.before, each.after) for each in symbols.reload_if_changed()}
    assert changes["platforms.mt5.instruments.NAS100.name"] == ("NAS100", "USTEC.cash")
    assert changes["platforms.bookmap.forms.bmd.name"] == ("{root}{M}{Y}.{exchange}@BMD", None)
    assert set(changes) == {
        "platforms.mt5.instruments.NAS100.name",
        "platforms.mt5.suffixes",
        "platforms.bookmap.forms.bmd.name",
        "platforms.bookmap.forms.bmd.exchanges",
    }
    assert symbols.book.name_of("mt5", "NQ").name == "USTEC.cash"
    assert symbols.reload_if_changed() == ()


def test_a_file_that_vanished_keeps_the_old_book(tmp_path):
    path = tmp_path / "symbols.json"
    path.write_text(MAPPING.read_text(encoding="utf-8"), encoding="utf-8")
    symbols = SymbolFile(path, CATALOG)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        symbols.reload_if_changed()
    assert isinstance(symbols.book, SymbolBook)
    assert symbols.reload_if_changed() == ()


def test_explain_says_why():
    lines = BOOK.explain("NQH5.CME@RITHMIC", "bookmap", ON)
    assert lines[0].startswith("NQH5.CME@RITHMIC means NQH25: form rithmic")
    assert "bookmap by bmd: NQH5.CME@BMD (form {root}{M}{Y}.{exchange}@BMD)" in lines
    assert "quantower by amp: NQH25 (form {root}{M}{YY})" in BOOK.explain("NQH25", "quantower", ON)
    everywhere = BOOK.explain("NQH25", on=ON)
    assert not [line for line in everywhere if " by " in line.split(":")[0]]
    assert "mt5: NAS100 (NAS100 stands for NQ on mt5)" in everywhere
    assert any(line.startswith("mt5_br: none (mt5_br has no name for NQ (CME)") for line in everywhere)
    assert BOOK.explain("WIN$", "mt5_br", ON)[0].startswith("WIN$ is refused (symbol_not_tradable)")
    assert "NQ is E-mini Nasdaq-100" in BOOK.explain("NQ", on=ON)[0]


def test_unknown_platforms_and_connections_are_named():
    with pytest.raises(ConfigError, match="mt5_br"):
        BOOK.parse("NQH25", "mt4", ON)
    with pytest.raises(ConfigError, match="rithmic"):
        BOOK.name_of("quantower", NQH25, "ib")


def test_the_micro_and_the_inverse_pair_are_not_confused():
    assert BOOK.name_of("mt5", "MNQ").instrument == "NAS100"
    # A CFD has one name here: that of the first root that it stands for.
    assert "signals trade it as NQ" in BOOK.name_of("mt5", "MNQ").why
    assert "signals trade it" not in BOOK.name_of("mt5", "NQ").why
    with pytest.raises(SymbolRefused, match="no name for 6J"):
        BOOK.name_of("mt5", Contract("6J", 2025, 3))  # USDJPY runs the other way: it must not stand for 6J
