"""NEXUS's interface against a gateway that restarts, is slow, deaf, refuses, or forgets; plain and asyncio."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import (
    KillLevel,
    Position,
    Positions,
    Query,
    Reject,
    RejectCode,
    Side,
    SignalCancel,
    SignalState,
)
from nexus_gateway.nexus_link.async_interface import AsyncNexusGatewayInterface
from nexus_gateway.nexus_link.interface import NexusGatewayInterface, gateway_options, options_of_config
from nexus_gateway.nexus_link.orders.book import BookTiming, SignalBook, SignalConflictError
from nexus_gateway.nexus_link.orders.outbox import Outbox, OutboxError, SignalInvalidError
from nexus_gateway.nexus_link.orders.outcomes import LinkStatus, SignalOutcome

from tests.support.patience import patient
from tests.support.scripted_gateway import (
    ScriptedGateway,
    make_report,
    make_signal,
    options_of,
    refuse,
    short_folder,
    until,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


class Nexus(NexusGatewayInterface):
    """Keeps all that it is told."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        super().__init__(options_of(folder, **fields))
        self.outcomes: list[SignalOutcome] = []
        self.rejects: list[Reject] = []
        self.links: list[LinkStatus] = []
        self.set_callbacks(on_outcome=self.outcomes.append, on_reject=self.rejects.append, on_link=self.links.append)


@contextmanager
def connected(folder: Path, **fields: Any) -> Iterator[Nexus]:
    with Nexus(folder, **fields) as nexus:
        assert nexus.connect(patient(30)), nexus.status.text
        yield nexus


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[ScriptedGateway]:
    gateway = ScriptedGateway(folder, **options)
    try:
        yield gateway
    finally:
        gateway.stop()


def kept_in(folder: Path, name: str = "nexus") -> list[tuple[str, bool]]:
    outbox = Outbox(folder / "nexus" / f"{name}.outbox")
    try:
        return [(signal.signal_id, answered) for signal, answered in outbox.signals()]
    finally:
        outbox.close()


def test_a_signal_is_sent_and_its_report_comes_back(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        outcome = nexus.send_signal(make_signal("a"), 30)
        assert outcome.state is SignalState.FILLED
        assert outcome.is_settled
        assert not outcome.is_final
        assert outcome.report.avg_price == Decimal("21500.25")
        assert nexus.outcome("a") == outcome
        until(lambda: nexus.outcomes)
        assert nexus.outcomes == [outcome]
        assert gateway.executed == {"a": 1}
        assert nexus.status.is_up
        assert nexus.status.stage == 1
        assert nexus.links[0].is_up


def test_the_same_signal_again_is_answered_and_not_sent(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        signal = make_signal("a")
        first = nexus.send_signal(signal, 30)
        again = nexus.send_signal(structs.replace(signal, created_ns=signal.created_ns + 5), 30)
        assert again == first
        assert gateway.signals() == ["a"]
        with pytest.raises(SignalConflictError, match="'a', which stands for another signal"):
            nexus.send_signal(make_signal("a", side=Side.SELL))
        assert gateway.signals() == ["a"]


@pytest.mark.parametrize("fields", [{"signal_id": "a b"}, {"signal_id": "x" * 65}, {"symbol": "nq"}, {"side": "up"}])
def test_what_nobody_could_read_is_refused_before_it_is_kept(folder, fields):
    """Kept, it would bar its symbol for ever, and keep the next process of this name from reading its outbox."""
    with serving(folder) as gateway, connected(folder) as nexus:
        with pytest.raises(SignalInvalidError, match=r"was not sent, the gateway could not decode it: .*\$\."):
            nexus.send_signal(make_signal(fields.pop("signal_id", "a"), **fields))
        with pytest.raises(SignalInvalidError, match="SignalCancel 'a' was not sent"):
            nexus.change_signal(SignalCancel(signal_id="a", platform="NT8"))
        assert nexus.unknown_symbols() == frozenset()
        assert (nexus.counts["unanswered"], nexus.counts["changes_kept"]) == (0, 0)
        assert gateway.heard == []
    assert kept_in(folder) == []


def test_running_out_of_time_is_unknown_and_the_report_comes_later(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.deaf = True
        signal = make_signal("slow")
        outcome = nexus.send_signal(signal, 0.05)
        assert outcome.is_unknown
        assert outcome.report is None
        assert outcome.told_ns == 0
        assert "no answer within 0.05 s" in outcome.text
        assert nexus.wait_settled("slow", 0.05).is_unknown
        until(lambda: gateway.executed)
        gateway.deaf = False
        gateway.say(gateway.reports["slow"])
        assert nexus.wait_settled("slow", patient(30)).state is SignalState.FILLED
        assert gateway.signals() == ["slow"]


def test_a_slow_gateway_is_waited_for(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.delay_s = 0.3
        assert nexus.send_signal(make_signal("a"), 30).state is SignalState.FILLED
        assert gateway.executed == {"a": 1}


def test_an_unanswered_signal_is_sent_again_in_the_same_session(folder):
    timing = BookTiming(send_again_ms=20, ask_again_ms=60_000)
    with serving(folder) as gateway, connected(folder, book_timing=timing) as nexus:
        gateway.deaf = True
        assert nexus.send_signal(make_signal("a"), 0).is_unknown
        until(lambda: gateway.signals().count("a") >= 3)
        gateway.deaf = False
        assert nexus.wait_settled("a", patient(30)).state is SignalState.FILLED
        assert gateway.executed == {"a": 1}
        assert nexus.counts["sent_again"] >= 2


def test_what_works_is_asked_for_because_a_live_link_may_swallow_reports(folder):
    timing = BookTiming(send_again_ms=60_000, ask_again_ms=20)
    with serving(folder) as gateway, connected(folder, book_timing=timing) as nexus:
        gateway.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
        assert nexus.send_signal(make_signal("a"), 30).state is SignalState.WORKING
        # The fill's report is never pushed; only the question finds it.
        gateway.reports["a"] = make_report(make_signal("a"), SignalState.FILLED, revision=2)
        assert nexus.wait_settled("a", patient(30)).state is SignalState.FILLED
        assert gateway.signals() == ["a"]


@pytest.mark.parametrize("executed", [True, False], ids=["report lost", "signal lost"])
def test_a_restarted_gateway_gets_the_signal_again_and_executes_it_once(folder, executed):
    first = ScriptedGateway(folder)
    with connected(folder) as nexus:
        if executed:
            first.deaf = True
        else:
            first.answer = lambda signal: []  # it dies before it has written anything
        assert nexus.send_signal(make_signal("a"), 0).is_unknown
        until(lambda: first.signals() == ["a"])
        first.stop()
        until(lambda: not nexus.status.is_up)
        with serving(folder, reports=first.reports) as second:
            outcome = nexus.wait_settled("a", patient(30))
            assert outcome.state is SignalState.FILLED
            assert outcome.report.duplicate is executed
            assert {**first.executed, **second.executed} == {"a": 1}
            assert len(first.executed) + len(second.executed) == 1


def test_a_signal_for_a_gateway_that_is_not_there_waits_for_it(folder):
    nexus = Nexus(folder)
    try:
        assert not nexus.connect(0.05)
        assert "keys folder" in nexus.status.text
        assert nexus.send_signal(make_signal("a"), 0.05).is_unknown
        with serving(folder) as gateway:
            assert nexus.wait_settled("a", patient(30)).state is SignalState.FILLED
            assert gateway.executed == {"a": 1}
    finally:
        nexus.close()


def test_after_a_reconnect_what_is_open_is_asked_for_and_never_sent(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
        nexus.send_signal(make_signal("a"), 30)
        gateway.reports["a"] = make_report(make_signal("a"), SignalState.CLOSED, revision=4)
        gateway.cut()
        outcome = nexus.wait_settled("a", patient(30))
        assert outcome.is_final
        assert gateway.signals() == ["a"]
        assert any(isinstance(message, Query) and message.signal_id == "a" for message in gateway.heard)
    assert kept_in(folder) == []


def test_a_gateway_that_lost_its_journal_makes_an_answered_signal_unknown(folder):
    first = ScriptedGateway(folder)
    with connected(folder) as nexus:
        first.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
        nexus.send_signal(make_signal("a"), 30)
        first.stop()
        with serving(folder) as second:
            until(lambda: nexus.outcome("a").code is RejectCode.UNKNOWN_SIGNAL)
            outcome = nexus.outcome("a")
            assert outcome.is_unknown
            assert outcome.report is not None
            assert "compare the platforms" in outcome.text
            assert second.signals() == []
            assert nexus.forget_signal("a")
            assert not nexus.forget_signal("a")
    assert kept_in(folder) == []


def test_nexus_restarts_and_goes_on_where_it_was(folder):
    with serving(folder) as gateway:
        gateway.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
        with connected(folder) as nexus:
            nexus.send_signal(make_signal("answered"), 30)
            until(lambda: nexus.counts["reports"] == 1)
            gateway.deaf = True
            nexus.send_signal(make_signal("open"), 0)
            until(lambda: "open" in gateway.executed)
        assert kept_in(folder) == [("answered", True), ("open", False)]
        gateway.deaf = False
        with connected(folder) as nexus:
            until(lambda: len(nexus.outcomes) == 2)
            assert {outcome.signal_id: outcome.state for outcome in nexus.outcomes} == {
                "answered": SignalState.WORKING,
                "open": SignalState.WORKING,
            }
            assert nexus.outcome("open").report.duplicate
        assert gateway.executed == {"answered": 1, "open": 1}
        assert gateway.signals().count("answered") == 1


def test_two_processes_of_one_name_are_refused_and_of_two_names_trade_an_id_once(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        with pytest.raises(OutboxError, match=r"is in use by process \d+"):
            Nexus(folder).connect()
        with connected(folder, name="other") as other:
            assert nexus.send_signal(make_signal("a"), 30).state is SignalState.FILLED
            second = other.send_signal(make_signal("a"), 30)
            assert second.state is SignalState.FILLED
            assert second.report.duplicate
        assert gateway.executed == {"a": 1}


def test_an_id_that_another_process_used_for_something_else_is_rejected(folder):
    with serving(folder) as gateway, connected(folder) as nexus, connected(folder, name="other") as other:
        nexus.send_signal(make_signal("a"), 30)
        outcome = other.send_signal(make_signal("a", side=Side.SELL), 30)
        assert outcome.state is SignalState.REJECTED
        assert outcome.code is RejectCode.DUPLICATE_SIGNAL
        assert outcome.report is None
        assert "ours was not traded" in outcome.text
        assert gateway.executed == {"a": 1}


def test_a_refused_message_is_rejected_only_when_it_cannot_have_been_taken_before(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.answer = lambda signal: []
        for signal_id in ("first", "again"):
            nexus.send_signal(make_signal(signal_id), 0)
        until(lambda: len(gateway.signals()) == 2)
        gateway.say(refuse(make_signal("first"), RejectCode.PLATFORM_NOT_READY))
        assert nexus.wait_settled("first", patient(30)).state is SignalState.REJECTED
        gateway.cut()
        until(lambda: gateway.signals().count("again") == 2)
        gateway.say(refuse(make_signal("again"), RejectCode.PLATFORM_NOT_READY))
        until(lambda: nexus.rejects)
        assert nexus.outcome("again").is_unknown
        gateway.say(refuse(make_signal("again"), RejectCode.MALFORMED))
        assert nexus.wait_settled("again", patient(30)).code is RejectCode.MALFORMED


def test_a_refused_key_is_said_and_a_new_one_is_read(folder):
    with serving(folder):
        right, wrong = folder / "keys" / "nexus" / "own.key_secret", folder / "keys" / "operator" / "own.key_secret"
        kept = right.read_bytes()
        right.write_bytes(wrong.read_bytes())
        nexus = Nexus(folder)
        try:
            assert not nexus.connect(0.3)
            until(lambda: "has proved the key operator" in nexus.status.text)
            assert nexus.status.code is RejectCode.NOT_ALLOWED
            right.write_bytes(kept)
            assert nexus.connect(patient(30))
        finally:
            nexus.close()


def test_a_gateway_of_another_version_is_said(folder):
    with serving(folder) as gateway:
        gateway.greeting = structs.replace(
            gateway.greeting,
            accepted=False,
            code=RejectCode.WRONG_VERSION,
            text="protocol version was 2, this side speaks 4; update the older side",
        )
        nexus = Nexus(folder)
        try:
            assert not nexus.connect(0.2)
            until(lambda: nexus.status.code is RejectCode.WRONG_VERSION)
            assert "update the older side" in nexus.status.text
        finally:
            nexus.close()


def test_callbacks_that_raise_stop_nothing(folder):
    with serving(folder), connected(folder) as nexus:

        def fail(outcome: SignalOutcome) -> None:
            raise ValueError("the owner's own fault")

        nexus.set_callbacks(on_outcome=fail)
        for number in range(3):
            assert nexus.send_signal(make_signal(f"s{number}"), 30).state is SignalState.FILLED
        until(lambda: nexus.counts["callback_errors"] == 3)
        assert nexus.status.is_up


def test_a_callback_may_send_but_not_wait(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        faults: list[Exception] = []

        def chain(outcome: SignalOutcome) -> None:
            if outcome.signal_id == "a":
                try:
                    nexus.send_signal(make_signal("never"), 1)
                except RuntimeError as error:
                    faults.append(error)
                nexus.send_signal(make_signal("b"), 0)

        nexus.set_callbacks(on_outcome=chain)
        nexus.send_signal(make_signal("a"), 30)
        until(lambda: "b" in gateway.executed)
        assert "must not wait" in str(faults[0])
        assert "never" not in gateway.executed


def test_a_slow_callback_does_not_cost_the_link(folder):
    with serving(folder), connected(folder) as nexus:
        release = threading.Event()
        nexus.set_callbacks(on_outcome=lambda outcome: release.wait(patient(30)) and None)
        nexus.send_signal(make_signal("a"), 30)
        time.sleep(1.5)  # longer than a mute link lives
        assert nexus.counts["link_cuts"] == 0
        assert nexus.send_signal(make_signal("b"), 30).state is SignalState.FILLED
        release.set()


def test_changes_are_handed_over_and_their_refusals_told(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
        nexus.send_signal(make_signal("a"), 30)
        assert nexus.change_signal(SignalCancel(signal_id="a"))
        until(lambda: any(isinstance(message, SignalCancel) for message in gateway.heard))
        reject = Reject(code=RejectCode.CANCEL_REJECTED, text="too late", signal_id="a", platform="nt8")
        gateway.say(reject)
        until(lambda: nexus.rejects)
        assert nexus.rejects == [reject]
        assert nexus.outcome("a").state is SignalState.WORKING
    closed = Nexus(folder)
    with pytest.raises(RuntimeError, match="call connect first"):
        closed.change_signal(SignalCancel(signal_id="a"))
    closed.close()


def test_positions_of_all_accounts_are_asked_for_together(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.positions = [
            Positions(platform="nt8", account="A", rows=(Position(symbol="NQ", quantity=Decimal(2)),), as_of_ns=7),
            Positions(platform="mt5", account="B", rows=()),
        ]
        assert nexus.ask_positions(30) == tuple(gateway.positions)
        gateway.positions = []
        assert nexus.ask_positions(30) == ()
        gateway.stop()
        until(lambda: not nexus.status.is_up)
        with pytest.raises(ConnectionError, match="no link"):
            nexus.ask_positions(30)


def test_reports_of_signals_that_nobody_here_sent_are_told_all_the_same(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        gateway.say(make_report(make_signal("of-yesterday"), revision=9))
        until(lambda: nexus.outcomes)
        assert nexus.outcomes[0].signal_id == "of-yesterday"
        assert nexus.counts["foreign_reports"] == 1


def test_an_outbox_that_cannot_be_written_refuses_the_signal(folder):
    with serving(folder) as gateway, connected(folder) as nexus:
        with sqlite3.connect(folder / "nexus" / "nexus.outbox") as database:
            database.execute("DROP TABLE signals")
        database.close()
        with pytest.raises(OutboxError, match="cannot be written"):
            nexus.send_signal(make_signal("a"), 30)
        assert nexus.outcome("a") is None
        assert gateway.signals() == []


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("process", 1)])
def test_a_kept_signal_is_synced_when_it_is_to_survive_a_power_cut(folder, durability, level):
    outbox = Outbox(folder / "one.outbox", durability)
    outbox.add(make_signal("a"))
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (level,)
    outbox.mark_answered("a")
    outbox.add(make_signal("b"))
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (level,)
    outbox.close()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_damaged_outbox_is_refused_with_a_cure(folder):
    (folder / "nexus").mkdir(mode=0o700)
    (folder / "nexus" / "nexus.outbox").write_bytes(b"no database at all, but long enough to be looked at" * 20)
    nexus = Nexus(folder)
    with pytest.raises(OutboxError, match=r"cannot be opened.*move the file away"):
        nexus.connect()
    nexus.close()
    with sqlite3.connect(folder / "other.outbox") as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(OutboxError, match="has version 9, this release reads 1"):
        Outbox(folder / "other.outbox")


def test_an_error_of_our_own_ends_a_session_and_nothing_else(folder, monkeypatch):
    take = SignalBook.apply_message
    failed: list[object] = []

    def fail_once(self: SignalBook, message: Any, now_ns: int, utc_ns: int) -> SignalOutcome | None:
        if not failed:
            failed.append(message)
            raise ZeroDivisionError("planted")
        return take(self, message, now_ns, utc_ns)

    monkeypatch.setattr(SignalBook, "apply_message", fail_once)
    with serving(folder) as gateway, connected(folder) as nexus:
        assert nexus.send_signal(make_signal("a"), 30).state is SignalState.FILLED
        assert nexus.counts["faults"] == 1
        assert gateway.executed == {"a": 1}
        assert gateway.signals() == ["a", "a"]


def test_a_note_that_cannot_be_written_is_counted_and_harmless(folder, monkeypatch):
    def refuse_to_write(self: Outbox, signal_id: str) -> None:
        raise OutboxError("the disk is full")

    with serving(folder) as gateway:
        with connected(folder) as nexus, monkeypatch.context() as patched:
            patched.setattr(Outbox, "mark_answered", refuse_to_write)
            assert nexus.send_signal(make_signal("a"), 30).state is SignalState.FILLED
            until(lambda: nexus.counts["outbox_errors"] == 1)
            assert nexus.status.is_up
        with connected(folder) as nexus:
            assert nexus.wait_settled("a", patient(30)).report.duplicate
        assert gateway.executed == {"a": 1}


def test_the_link_says_when_the_kill_switch_is_on(folder):
    with serving(folder) as gateway:
        gateway.greeting = structs.replace(gateway.greeting, kill_level=KillLevel.NO_NEW, stage=3)
        with connected(folder) as nexus:
            assert (nexus.status.stage, nexus.status.kill_level) == (3, KillLevel.NO_NEW)


def test_closing_gives_waiting_calls_what_is_known(folder):
    with serving(folder) as gateway:
        gateway.deaf = True
        with connected(folder) as nexus:
            found: list[SignalOutcome] = []
            thread = threading.Thread(target=lambda: found.append(nexus.send_signal(make_signal("a"), 60)))
            thread.start()
            until(lambda: gateway.signals())
        thread.join(patient(30))
        assert found[0].is_unknown
        with pytest.raises(RuntimeError, match="not open"):
            nexus.send_signal(make_signal("b"), 1)
    assert kept_in(folder) == [("a", False)]


def test_the_asyncio_form_does_the_same(folder):
    async def trade() -> list[SignalOutcome]:
        told: list[SignalOutcome] = []
        async with AsyncNexusGatewayInterface(options_of(folder)) as nexus:
            nexus.set_callbacks(on_outcome=told.append)
            assert nexus.status.is_up
            outcomes = await asyncio.gather(*(nexus.send_signal(make_signal(f"s{n}"), 30) for n in range(20)))
            assert {outcome.state for outcome in outcomes} == {SignalState.FILLED}
            assert (await nexus.wait_settled("s3", patient(30))).signal_id == "s3"
            gateway.deaf = True
            assert (await nexus.send_signal(make_signal("late"), 0.05)).is_unknown
            with pytest.raises(SignalConflictError):
                await nexus.send_signal(make_signal("s3", side=Side.SELL))
            assert await nexus.change_signal(SignalCancel(signal_id="s3"))
            assert await nexus.ask_positions(30) == ()
            while len(told) < 20:
                await asyncio.sleep(0.01)
        return told

    with serving(folder) as gateway:
        told = asyncio.run(trade())
        assert {outcome.signal_id for outcome in told} == {f"s{n}" for n in range(20)}
        assert gateway.executed == {**{f"s{n}": 1 for n in range(20)}, "late": 1}


def test_the_asyncio_form_can_try_again_after_its_name_was_in_use(folder):
    async def trade() -> SignalState:
        with connected(folder):
            nexus = AsyncNexusGatewayInterface(options_of(folder))
            for _ in range(2):  # the second time as well: there is no link that it could wait for
                with pytest.raises(OutboxError, match="is in use"):
                    await nexus.connect(patient(30))
        assert await nexus.connect(patient(30))
        outcome = await nexus.send_signal(make_signal("a"), 30)
        await nexus.close()
        return outcome.state

    with serving(folder):
        assert asyncio.run(trade()) is SignalState.FILLED


def test_options_follow_the_configuration(folder):
    orders = OrdersConfig(durability="process", heartbeat_ms=100, mute_after_ms=700, keys_folder=str(folder / "k"))
    options = options_of_config(GatewayConfig(run_folder=str(folder), orders=orders), name="one")
    assert options.endpoint.endswith("/nexus.ipc") or options.endpoint == "tcp://127.0.0.1:5556"
    assert (options.durability, options.link_timing.mute_after_ms) == ("process", 700)
    assert options.keys_folder == folder / "k" / "nexus"
    other = options_of_config(GatewayConfig(run_folder=str(folder / "other")), name="one")
    assert other.outbox != options.outbox  # what was sent to one gateway is never sent again to another
    with pytest.raises(ConfigError, match=r"name was '\.\./x'"):
        options_of_config(GatewayConfig(run_folder=str(folder)), name="../x")


def test_another_machine_is_reached_over_tcp_with_keys_of_its_own(folder):
    with pytest.raises(ConfigError, match="nexus-gateway keys make"):
        gateway_options(folder, host_name="10.0.0.5")
    options = gateway_options(folder, host_name="10.0.0.5", port=7001, keys_folder=folder / "laptop")
    assert (options.endpoint, options.keys_folder) == ("tcp://10.0.0.5:7001", folder / "laptop")
    here = gateway_options(folder, keys_folder=folder / "laptop")
    assert here.outbox != options.outbox


def test_reading_market_data_alone_loads_nothing_of_orders():
    code = (
        "import sys, nexus_gateway.nexus_link.market_view; "
        "print([name for name in ('zmq', 'holidays', 'nexus_gateway.core') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    code = code.replace("market_view", "interface").replace(
        "'zmq', 'holidays', 'nexus_gateway.core'", "'numba', 'holidays'"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
