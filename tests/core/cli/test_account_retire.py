"""`account retire` at a real gateway: a platform is taken out of the configuration while it holds a position."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from msgspec import structs
from nexus_gateway.core.messages import SignalState

from tests.support.operator_commands import run, run_typing
from tests.support.trading_floor import FakeNexus, FakePlatform, Floor, make_signal, open_floor

D = Decimal
Left = tuple[Floor, FakePlatform, FakeNexus, str]


@pytest.fixture
def left() -> Iterator[Left]:
    """`nt8` has traded one lot, with a stop, and is out of the configuration since a restart. `sierra` trades on."""
    with open_floor(("nt8", "fill"), ("sierra", "work")) as (floor, (nt8, _), nexus):
        entry = make_signal("nt8")
        nexus.client.send(entry)
        floor.until(lambda: (r := nexus.report(entry.signal_id)) is not None and r.state is SignalState.FILLED)
        floor.kill()
        floor.people.remove(nt8)
        nt8.client.close()
        floor.config = structs.replace(floor.config, platforms={"sierra": floor.config.platforms["sierra"]})
        links = nexus.client.counts["links"]
        floor.start()
        floor.until(lambda: nexus.client.counts["links"] > links)
        floor.ready(1)
        yield floor, nt8, nexus, entry.signal_id


def test_it_is_shown_typed_and_gone(left: Left) -> None:
    floor, _, nexus, signal_id = left
    killed = run(floor, "kill", "--level", "flatten", "--timeout", "3", "--json")
    assert killed.code == 1
    assert "nt8 is not in the configuration any more" in killed.json["platforms"]["nt8|SIM1"]
    refused = run(floor, "resume", "--reason", "on")
    assert refused.code == 1
    assert "then `nexus-gateway account retire nt8 --account SIM1`" in refused.out

    wrong = run_typing(floor, "account", "retire", "nt8", typed="nt8")
    assert wrong.code == 1
    assert "the name was 'nt8', must be 'SIM1'; nothing was changed" in wrong.out
    none = run_typing(floor, "account", "retire", "nt8", typed="")
    assert "no name was typed; nothing was changed" in none.err
    done = run_typing(floor, "account", "retire", "nt8", typed="SIM1")
    assert done.code == 0, done.err
    assert f"nt8|SIM1: signal {signal_id} holds +1 NQ" in done.err
    assert "type the name of the account: SIM1" in done.err
    assert done.out.startswith("done\n")

    floor.until(lambda: (r := nexus.report(signal_id)) is not None and r.state is SignalState.CLOSED)
    report = nexus.report(signal_id)
    assert report is not None
    assert report.realized_usd is None, "at what price it was closed is not known"
    assert run(floor, "resume", "--reason", "on").code == 0
    assert run(floor, "kill", "--level", "flatten", "--json").json["platforms"] == {"sierra|SIM1": "flatten verified"}
    shown = run(floor, "positions").out
    assert "no positions" in shown
    assert "nt8, account SIM1: retired " in shown
    page = run(floor, "orders", "--json").json
    assert [(row["platform"], row["retired_age_s"] is None) for row in page["accounts"]] == [
        ("nt8", False),
        ("sierra", True),
    ]


def test_when_it_comes_back_it_is_adopted_as_a_new_account(left: Left) -> None:
    floor, nt8, _, _ = left
    assert run(floor, "account", "retire", "nt8", "--account", "SIM1", "--yes", "--json").json["done"]
    sierra = floor.config.platforms["sierra"]
    floor.kill()
    floor.config = structs.replace(floor.config, platforms={"nt8": sierra, "sierra": sierra})
    floor.start()
    back = FakePlatform(floor, "nt8", mode="work")
    back.fills, back.working, back.placed = nt8.fills, nt8.working, nt8.placed
    floor.people.append(back)
    floor.ready(2)
    (row,) = run(floor, "positions", "--platform", "nt8", "--json").json["positions"]
    assert (row["quantity"], row["reported"], row["agrees"]) == ("1", "1", True)
    (account,) = run(floor, "orders", "--platform", "nt8", "--json").json["accounts"]
    assert (account["ready"], account["retired_age_s"]) == (True, None)


def test_it_is_refused_with_the_reason(left: Left) -> None:
    floor, _, _, _ = left
    for words, said in (
        (("sierra",), "sierra|SIM1 is linked"),
        (("nt9",), "no account nt9 is known; known are: nt8|SIM1, sierra|SIM1"),
        (("nt8", "--account", "SIM2"), "no account nt8|SIM2 is known"),
    ):
        refused = run_typing(floor, "account", "retire", *words, typed="SIM1")
        assert refused.code == 1, words
        assert said in refused.out
    for words, said in (
        (("nt8",), "stdin is no terminal"),
        (("nt8", "--yes"), "--yes was given, which asks no question; name the account in full"),
        (("nt8", "--json"), "--json was given, which asks no question; add --yes and --account"),
        (("N T", "--account", "SIM1", "--yes"), "platform was 'N T'"),
    ):
        usage = run(floor, "account", "retire", *words)
        assert (usage.code, usage.out) == (2, ""), words
        assert said in usage.err
    down = next(person for person in floor.people if isinstance(person, FakePlatform))
    floor.people.remove(down)
    down.client.close()
    floor.until(lambda: not floor.counters()["routes_up"])
    refused = run(floor, "account", "retire", "sierra", "--account", "SIM1", "--yes", "--json")
    assert (refused.code, refused.json["accepted"]) == (1, False)
    assert "still configured, only its link is down" in refused.json["text"]
