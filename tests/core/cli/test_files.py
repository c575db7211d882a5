"""Commands that read and write files: paths that cannot be used, keys."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from nexus_gateway.core.engine import ClockTicked
from nexus_gateway.core.journal import Journal, backup, export
from nexus_gateway.core.journal.retention import archive_folder

from tests.support.old_journals import write_old_journal
from tests.support.operator_commands import run
from tests.support.trading_floor import Floor


def test_a_path_that_cannot_be_used_is_named_without_a_traceback() -> None:
    floor = Floor(("nt8",))
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        for words, path in (
            (("journal", "export", "-o", str(floor.root)), str(floor.root)),
            (("journal", "backup", str(floor.root / "nowhere" / "copy")), "nowhere"),
            (("journal", "verify", str(floor.root)), str(floor.root)),
        ):
            answer = run(floor, *words)
            assert answer.code in (1, 2), words
            assert answer.err.startswith("error: "), answer.err
            assert path in answer.err
            assert "Traceback" not in answer.err
        floor.kill()
        Path(floor.config.journal_path).parent.chmod(0o755)
        answer = run(floor, "journal", "restore", str(floor.root / "copy"))
        assert answer.code == 2
        assert "warning: other users may reach the journal: folder" in answer.err, "as at a start, which warns of it"
        assert "has mode 0o755, allowed is 0o700; run: chmod 700" in answer.err
        assert "there is no journal" in answer.err
    finally:
        floor.close()


def test_restore_says_that_a_copy_of_a_lost_journal_bars_the_next_start(tmp_path: Path) -> None:
    path, copy = tmp_path / "orders.sqlite", tmp_path / "copy"
    write_old_journal(path, days=1)
    floor = Floor(("nt8",), journal=str(path))
    try:
        assert run(floor, "journal", "backup", str(copy)).code == 0
        with closing(Journal(path)) as journal:
            journal.append(ClockTicked(), journal.last_seq + 1)
            journal.commit()
            backup(journal.connection, tmp_path / "orders.sqlite.rescued")
        answer = run(floor, "journal", "restore", str(copy))
        assert answer.code == 0
        assert "a start is refused until this is settled" in answer.err
        assert "orders.sqlite.rescued was saved" in answer.err
        (tmp_path / "orders.sqlite.rescued").rename(tmp_path / "aside")
        assert run(floor, "journal", "restore", str(copy)).err == ""
    finally:
        floor.close()


def test_journal_archive_beside_a_gateway_and_without_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    desk = write_old_journal(path, days=100)
    before = "".join(f"{line}\n" for line in export(path))
    size = path.stat().st_size
    floor = Floor(("nt8",), journal=str(path), keep_days=None)
    try:
        floor.start()
        floor.until(lambda: floor.counters())
        refused = run(floor, "journal", "archive")
        assert refused.code == 2
        assert "keep_days was null" in refused.err
        beside = run(floor, "journal", "archive", "--keep-days", "8", "--json").json
        assert (beside["archives"], beside["removed"]) == ([f"000000000001-{len(desk.events) - 1:012d}.zip"], False)
        # The gateway names and removes what the command has written when it looks next: at the change of the day, or
        # just now on a busy machine, where its first look comes late.
        first_seq = run(floor, "journal", "verify", "--json").json["first_seq"]
        assert first_seq in (1, len(desk.events))
        floor.kill()
        alone = run(floor, "journal", "archive", "--keep-days", "8")
        assert alone.code == 0
        if first_seq == 1:
            assert f"{beside['archives'][0]}: events 1 to {len(desk.events) - 1}" in alone.out
        assert path.stat().st_size < size / 2
        sound = run(floor, "journal", "verify", "--json").json
        assert (sound["sound"], sound["first_seq"], sound["archives"]) == (True, len(desk.events), 1)
        output = tmp_path / "journal.jsonl"
        assert run(floor, "journal", "export", "-o", str(output)).code == 0
        assert output.read_text().startswith(before)
        (archive_folder(path) / beside["archives"][0]).unlink()
        for words in (("journal", "verify"), ("journal", "export", "-o", str(output)), ("report",)):
            answer = run(floor, *words)
            assert answer.code != 0
            assert f"{beside['archives'][0]} is missing" in answer.out + answer.err
        assert "NOT complete" in run(floor, "journal", "verify").out
    finally:
        floor.close()
