"""Read and check the configuration file and the token. README.md explains the keys."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
from typing import Any

from .errors import Breach, ConfigError
from .fields import NAME, PLATFORM, Body, Required, one_of, take_fields, text_up_to, to_flag, whole_between
from .log import LEVELS

PORTS = {"mt5": 9011, "mt5_br": 9012}
CLOCKS: dict[str, Body] = {
    "mt5": {"utc_offset_minutes": 120, "dst": "us", "mode": "configured"},
    "mt5_br": {"utc_offset_minutes": -180, "dst": "none", "mode": "configured"},
}


def _text_or_none(value: Any) -> str | None:
    return None if value is None else NAME(value)


def _path_or_none(value: Any) -> str | None:
    return None if value is None else text_up_to(1_000, r"(?s)^.")(value)


def _hours_or_none(value: Any) -> tuple[int, int] | None:
    """Parse `HH:MM-HH:MM` to minutes of the day, from and to."""
    if value is None:
        return None
    found = re.match(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$", str(value))
    if found is None:
        raise ValueError('must be hours such as "09:00-18:30", by the server\'s clock')
    first, last = (int(found.group(i)) * 60 + int(found.group(i + 1)) for i in (1, 3))
    return first, last


CLOCK_FIELDS: dict[str, Any] = {
    "utc_offset_minutes": (whole_between(-900, 900), 0),
    "dst": (one_of("none", "us", "eu"), "none"),
    "mode": (one_of("configured", "measured"), "configured"),
}
CONFIG_FIELDS: dict[str, Any] = {
    "platform": (PLATFORM, Required),
    "terminal_path": (text_up_to(257, r"(?s)^."), Required),
    "login": (whole_between(1, 2**63 - 1), Required),
    "server": (text_up_to(253, r"(?s)^."), Required),
    "company": (_text_or_none, None),
    "portable": (to_flag, True),
    "token_file": (_path_or_none, None),
    "token_env": (_text_or_none, None),
    "host": (NAME, "127.0.0.1"),
    "port": (whole_between(1, 65_535), None),
    "remote": (to_flag, False),
    "clock": (lambda value: take_fields(value, CLOCK_FIELDS), None),
    "role": (one_of("both", "ticks", "orders"), "both"),
    "poll_ms": (whole_between(1, 1_000), 2),
    "backoff_ms": (whole_between(50, 60_000), 1_000),
    "account_wait_s": (whole_between(0, 600), 60),
    "monitor_busy_ms": (whole_between(5, 1_000), 30),
    "monitor_idle_ms": (whole_between(50, 5_000), 300),
    "history_days": (whole_between(1, 30), 2),
    "deviation_points": (whole_between(0, 100_000), 10),
    "locked_quotes": (one_of("pass", "gate"), None),
    "quote_hours": (_hours_or_none, None),
    "ids_file": (_path_or_none, None),
    "pulse_file": (_path_or_none, None),
    "log_file": (_path_or_none, None),
    "log_level": (one_of(*LEVELS), "info"),
}


class Config:
    """The checked configuration. `token` must never be logged."""

    def __init__(self, values: Body, folder: str, stem: str) -> None:
        """`folder`, `stem`: of the configuration file; relative paths start there. Raises ConfigError."""
        try:
            taken = take_fields(values, CONFIG_FIELDS)
        except (Breach, ValueError) as error:
            raise ConfigError(f"{error}; correct it, see README.md") from None
        self.platform: str = taken["platform"]
        self.terminal_path: str = taken["terminal_path"]
        self.login: int = taken["login"]
        self.server: str = taken["server"]
        self.company: str | None = taken["company"]
        self.portable: bool = taken["portable"]
        self.host: str = taken["host"]
        self.port: int = taken["port"] or PORTS.get(self.platform, 0)
        self.clock: Body = taken["clock"] or CLOCKS.get(self.platform, CLOCKS["mt5"])
        self.role: str = taken["role"]
        self.has_ticks: bool = self.role != "orders"
        self.has_orders: bool = self.role != "ticks"
        self.poll_s: float = taken["poll_ms"] / 1000
        self.backoff_s: float = taken["backoff_ms"] / 1000
        self.account_wait_s: int = taken["account_wait_s"]
        self.monitor_busy_s: float = taken["monitor_busy_ms"] / 1000
        self.monitor_idle_s: float = taken["monitor_idle_ms"] / 1000
        self.history_days: int = taken["history_days"]
        self.deviation_points: int = taken["deviation_points"]
        self.gate_locked: bool = (taken["locked_quotes"] or ("gate" if self.platform == "mt5_br" else "pass")) == "gate"
        self.quote_hours: tuple[int, int] | None = taken["quote_hours"]
        self.ids_file = os.path.join(folder, taken["ids_file"] or f"{stem}.ids")
        self.pulse_file = None if taken["pulse_file"] is None else os.path.join(folder, taken["pulse_file"])
        self.log_file = None if taken["log_file"] is None else os.path.join(folder, taken["log_file"])
        self.log_level: str = taken["log_level"]
        if not self.port:
            raise ConfigError(f"port is missing: platform {self.platform!r} has none of its own")
        if not os.path.isabs(self.terminal_path):
            raise ConfigError(
                f"terminal_path was {self.terminal_path!r}, must be absolute: without the whole path the module may "
                "take another terminal"
            )
        if not taken["remote"] and not _is_loopback(self.host):
            raise ConfigError(f"host was {self.host!r}, not this machine; tunnel the port, or write remote: true")
        self.token = _read_token(taken["token_file"], taken["token_env"], folder)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_text(path: str) -> str:
    """Read a regular file. Never waits: a plain `open` of a pipe would, until another process writes to it."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), encoding="utf-8") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise OSError("it is a pipe, device or folder, not a regular file; remove it")
        return source.read()


def _read_token(file: str | None, variable: str | None, folder: str) -> str:
    if (file is None) == (variable is None):
        raise ConfigError("token_file is missing; name the file with the token (or token_env, but not both)")
    if variable is not None:
        where, token = f"environment variable {variable}", os.environ.get(variable, "").strip()
    else:
        path = os.path.join(folder, file or "")
        where = f"file {path}"
        try:
            token = _read_text(path).strip()
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except (OSError, ValueError) as error:
            raise ConfigError(f"token_file {path} cannot be read: {error}") from None
        if os.name == "posix" and mode & 0o077:
            raise ConfigError(f"token_file {path} has mode {oct(mode)}, allowed is 0o600; run: chmod 600 {path}")
    for what, number, least in (("characters", len(token), 16), ("different characters", len(set(token)), 6)):
        if number < least:
            raise ConfigError(
                f"the token in {where} had {number} {what}, must be at least {least}; make one with "
                'python -c "import secrets; print(secrets.token_urlsafe(24))"'
            )
    return token


def load_config(path: str) -> Config:
    """Load the configuration from a JSON file. Raises ConfigError."""
    try:
        values = json.loads(_read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}") from None
    folder, name = os.path.split(os.path.abspath(path))
    return Config(values, folder, os.path.splitext(name)[0])
