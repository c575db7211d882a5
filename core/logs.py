"""Structured logs: JSON lines in a rotating file per process, and short text on stderr.

One line of the file is one log event: `ts_ns` (UTC), `level`, `process`, `pid`, `event` and the event's own fields,
with units in their names. Nothing goes to stdout: with `--json` it carries one object only.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import shutil
import sys
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

import msgspec

from ..shm import host
from .errors import ConfigError

LOG_SUFFIX: Final = ".jsonl"
_ROTATE_BYTES: Final = 10 << 20
_KEPT_FILES: Final = 5
_CHECK_SPACE_S: Final = 5.0
_CHECK_AGE_S: Final = 3600.0
_DAY_S: Final = 86_400.0
_OLD_NAME: Final = re.compile(r".+\.jsonl(\.\d+)?")
_RESERVED: Final = frozenset({"ts_ns", "level", "process", "pid", "logger", "event", "traceback"})


class Log:
    """Writes events with fields: `log.info("ring opened", capacity=65536)`. Any thread.

    A field whose name looks like a secret's is written as "(hidden)".
    """

    def __init__(self, logger: logging.Logger, **fields: Any) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        """A log that adds these fields to every event."""
        return Log(self._logger, **{**self._fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, fields, traceback=True)

    def _write(self, level: int, event: str, fields: dict[str, Any], *, traceback: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            shown = {key: HIDDEN if is_secret(key) else value for key, value in {**self._fields, **fields}.items()}
            self._logger.log(level, "%s", event, extra={"fields": shown}, exc_info=traceback)


def set_up_logs(
    process: str,
    folder: Path,
    level: str,
    *,
    console: bool = True,
    keep_days: int | None = None,
    stop_below_bytes: int = 0,
) -> Log:
    """Send all log events of this process to `<folder>/<process>.jsonl`, and as text to stderr if `console`.

    Call it once at the start of a process; a second call replaces the first. Events of libraries go the same way. A
    file is rotated at 10 MiB and five old ones are kept. When the disk is full events are lost and the process goes on.

    Args:
        level: debug, info, warning or error.
        keep_days: log files in the folder that no process has written to for so long are removed; None = never.
        stop_below_bytes: with less free space only warnings and errors are written to the file.

    Raises:
        ConfigError: the folder cannot be written.
    """
    path = folder / (process + LOG_SUFFIX)
    try:
        file = LogFile(path, keep_days, stop_below_bytes)
    except OSError as error:
        raise ConfigError(
            f"log file {path} cannot be written: {error.strerror}; correct log_folder or its permissions"
        ) from error
    file.setFormatter(JsonFormatter(process))
    handlers: list[logging.Handler] = [file]
    if console:
        text = logging.StreamHandler(sys.stderr)
        text.setFormatter(TextFormatter(process))
        handlers.append(text)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    return process_log(process)


def process_log(process: str) -> Log:
    """The log of a process; works before `set_up_logs` too."""
    return Log(logging.getLogger(f"nexus_gateway.{process}"))


class LogFile(logging.handlers.RotatingFileHandler):
    """A rotated log file that keeps its folder from filling the disk."""

    def __init__(self, path: Path, keep_days: int | None, stop_below_bytes: int) -> None:
        """See `set_up_logs`. Raises OSError when the file cannot be written."""
        super().__init__(path, maxBytes=_ROTATE_BYTES, backupCount=_KEPT_FILES, encoding="utf-8")
        self._folder = path.parent
        self._keep_days = keep_days
        self._stop_below_bytes = stop_below_bytes
        self._is_short = False
        self._next_space_s = self._next_age_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is below a warning and the disk is nearly full."""
        self._look_around(time.monotonic())
        if self._is_short and record.levelno < logging.WARNING:
            return
        if self.stream is not None and not os.path.exists(self.baseFilename):
            # Removed by a person, or as an old file by another process: lines must not go into a file without a name.
            # The folder may have gone with it.
            self.stream.close()
            self.stream = None  # `emit` opens it again
        super().emit(record)

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.fdopen(host.open_appending(path), "a", encoding=self.encoding)

    def _look_around(self, now_s: float) -> None:
        if now_s >= self._next_space_s and self._stop_below_bytes:
            self._next_space_s = now_s + _CHECK_SPACE_S
            try:
                self._is_short = shutil.disk_usage(self._folder).free < self._stop_below_bytes
            except OSError:
                self._is_short = False  # unknown: the write itself shows it
        if now_s >= self._next_age_s and self._keep_days is not None:
            self._next_age_s = now_s + _CHECK_AGE_S
            remove_old_logs(self._folder, time.time() - self._keep_days * _DAY_S)


def remove_old_logs(folder: Path, before_s: float) -> int:
    """Remove log files of any process that were last written before this UTC time. Returns how many."""
    removed = 0
    try:
        old = [path for path in folder.iterdir() if _OLD_NAME.fullmatch(path.name)]
    except OSError:
        return 0
    for path in old:
        try:
            if path.stat().st_mtime < before_s:
                path.unlink()
                removed += 1
        except OSError:
            continue  # gone meanwhile, or (Windows) another process has it open
    return removed


class JsonFormatter(logging.Formatter):
    """One JSON object per line. NaN and infinity become null; a value that JSON cannot hold becomes text."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts_ns": time.time_ns(),  # the record's own time is a float, exact to a microsecond only
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields_of(record).items():
            line[f"{key}_" if key in _RESERVED else key] = value
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """`2026-03-02T14:30:00.125Z WARNING nt8: reconnecting attempt=3`"""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = "".join(f" {key}={value}" for key, value in _fields_of(record).items())
        text = f"{moment}.{int(record.msecs):03d}Z {record.levelname} {self._process}: {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


HIDDEN: Final = "(hidden)"


_SECRET: Final = re.compile(r"token|password|passwd|secret|credential|private_key|api_key", re.IGNORECASE)


def is_secret(key: str) -> bool:
    """Whether a setting or log field of this name is hidden in logs and error texts, which get copied and mailed."""
    return _SECRET.search(key) is not None
