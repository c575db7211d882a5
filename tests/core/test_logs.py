"""Logs: one JSON object a line, exact time, no secrets, rotation, short text for people."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nexus_gateway.core import logs
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.logs import set_up_logs


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(folder: Path, process: str = "nt8") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{process}.jsonl").read_text().splitlines()]


def test_an_event_is_one_json_object_with_its_fields(tmp_path: Path) -> None:
    before_ns = time.time_ns()
    log = set_up_logs("nt8", tmp_path / "logs", "info", console=False)
    log.info("ring opened", capacity=65_536, folder=tmp_path, age_s=float("nan"), level="mine")
    log.debug("not shown")
    (line,) = lines(tmp_path / "logs")
    assert before_ns <= line.pop("ts_ns") <= time.time_ns()
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "info",
        "process": "nt8",
        "logger": "nexus_gateway.nt8",
        "event": "ring opened",
        "capacity": 65_536,
        "folder": str(tmp_path),
        "age_s": None,
        "level_": "mine",
    }


def test_secrets_are_hidden_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logs("nt8", tmp_path, "info").bind(bridge_token="abc123")
    log.warning("refused", password="abc123", symbol="NQ")
    assert lines(tmp_path)[0]["bridge_token"] == "(hidden)"
    assert "abc123" not in (tmp_path / "nt8.jsonl").read_text() + capsys.readouterr().err


def test_text_for_people_goes_to_stderr_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs("nt8", tmp_path, "info").warning("reconnecting", attempt=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING nt8: reconnecting attempt=3\n", captured.err)


def test_an_exception_carries_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logs("nt8", tmp_path, "info")
    try:
        raise RuntimeError("planned")
    except RuntimeError:
        log.exception("failed", attempt=1)
    assert "RuntimeError: planned" in lines(tmp_path)[0]["traceback"]
    assert "RuntimeError: planned" in capsys.readouterr().err


def test_other_libraries_and_warnings_are_caught(tmp_path: Path) -> None:
    set_up_logs("nt8", tmp_path, "info", console=False)
    logging.getLogger("asyncio").error("task failed: %s", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)  # catch_warnings had put the printing back
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
    assert [line["logger"] for line in lines(tmp_path)] == ["asyncio", "py.warnings"]


def test_a_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_ROTATE_BYTES", 2_000)
    log = set_up_logs("nt8", tmp_path, "info", console=False)
    for number in range(100):
        log.info("tick", number=number)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["nt8.jsonl", *(f"nt8.jsonl.{number}" for number in range(1, 6))]
    assert lines(tmp_path)[-1]["number"] == 99


def test_a_second_set_up_replaces_the_first(tmp_path: Path) -> None:
    set_up_logs("one", tmp_path, "info", console=False)
    set_up_logs("two", tmp_path, "info", console=False).info("here")
    assert (tmp_path / "one.jsonl").read_text() == ""
    assert [line["event"] for line in lines(tmp_path, "two")] == ["here"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/nt8.jsonl cannot be written: .*; correct log_folder"):
        set_up_logs("nt8", tmp_path / "file", "info")


def test_old_files_of_any_process_go_and_nothing_else(tmp_path: Path) -> None:
    day_s = 86_400
    # A process that prints nothing for a month still has its console file open.
    kept = ("young.jsonl", "notes.txt", "journal.sqlite", "old.jsonl.part", "mt5_bridge.console")
    old = ("old.jsonl", "old.jsonl.3")
    for name in (*kept, *old):
        (tmp_path / name).write_text("{}\n")
        age_s = 1 if name == "young.jsonl" else 31 * day_s
        os.utime(tmp_path / name, (time.time() - age_s, time.time() - age_s))
    set_up_logs("nt8", tmp_path, "info", console=False, keep_days=30).info("here")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "nt8.jsonl"}


def test_a_log_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    log = set_up_logs("nt8", tmp_path, "info", console=False)
    log.info("one")
    (tmp_path / "nt8.jsonl").unlink()
    log.info("two")
    assert [line["event"] for line in lines(tmp_path)] == ["two"]


def test_a_log_folder_that_was_removed_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logs("nt8", tmp_path / "a" / "logs", "info", console=False)
    log.info("one")
    shutil.rmtree(tmp_path / "a")
    log.info("two")
    log.info("three")
    assert [line["event"] for line in lines(tmp_path / "a" / "logs")] == ["two", "three"]
    assert capsys.readouterr().err == ""


def test_with_little_space_left_only_warnings_and_errors_are_written(tmp_path: Path) -> None:
    log = set_up_logs("nt8", tmp_path, "info", console=False, stop_below_bytes=1 << 60)
    log.info("dropped")
    log.warning("kept")
    log.error("kept too")
    assert [line["event"] for line in lines(tmp_path)] == ["kept", "kept too"]
