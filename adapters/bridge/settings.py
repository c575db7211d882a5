"""The keys of `settings` that every bridged platform has, and how its token is read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from ...core.bounds import PLAIN_TEXT
from ...core.errors import ConfigError
from ...core.transport import is_loopback
from ...shm import host
from ...shm.tick import Platform
from .session import BridgeTiming

PORTS: Final = {
    Platform.NT8: 9001,
    Platform.QUANTOWER: 9002,
    Platform.BOOKMAP: 9003,
    Platform.MT5: 9011,
    Platform.MT5_BR: 9012,
}
MIN_TOKEN_CHARACTERS: Final = 16
MIN_TOKEN_VARIETY: Final = 6
"""Fewer different characters are no random text: of 16 random digits of hex one in 10,000 has so few."""
MAKE_TOKEN: Final = """python -c "import secrets; print(secrets.token_urlsafe(24))\""""
"""Command that prints a token of 32 characters."""
_Seconds = Annotated[float, Meta(gt=0, le=60)]


class BridgeStart(Struct, frozen=True):
    """How to start a bridge on this machine.

    Attributes:
        command: the path of a file with `configuration` as JSON is appended to it.
        start_timeout_s: from the start to the first write of its pulse file.
        part: distinguishes the platform's two bridges; empty for the only one, or the one for orders.
    """

    command: tuple[str, ...]
    configuration: dict[str, Any]
    start_timeout_s: float
    part: str = ""


class BridgeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a platform that is reached through a bridge (bridges/PROTOCOL.md).

    Attributes:
        host, port: of the bridge; port None = the platform's own (`PORTS`).
        remote: allow a bridge on another machine. The stream is not encrypted: use a tunnel.
        token_file: file with the token that the bridge has as well; readable by this user only.
        token_env: environment variable that holds the token, instead of a file.
        account: the platform's account to trade; None = the only one there is.
        names: universal name -> the platform's own name, where the symbol mappings are not right for it.
        connection: form of names that the platform uses, such as that of a feed; None = the mappings' default.
        connect_timeout_s: to open the connection.
        answer_timeout_s: for the bridge's hello, its answer to a subscription, and the first snapshot.
        snapshot_timeout_s: for each later snapshot; a late one counts as incomplete. Keep it below
            `orders.mute_after_ms` of the configuration, or the gateway cuts its link meanwhile.
        timing: heartbeats, and the time after which an unanswered command counts as unknown.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    remote: bool = False
    token_file: str | None = None
    token_env: str | None = None
    account: Annotated[str, Meta(pattern=PLAIN_TEXT, max_length=64)] | None = None
    names: dict[str, str] = {}
    connection: str | None = None
    connect_timeout_s: _Seconds = 2.0
    answer_timeout_s: _Seconds = 5.0
    snapshot_timeout_s: _Seconds = 1.5
    timing: BridgeTiming = BridgeTiming()

    def __post_init__(self) -> None:
        if not self.remote and not is_loopback(self.host):
            raise ValueError(
                f"host was {self.host!r}, which is not this machine; tunnel the port to 127.0.0.1, or write "
                "remote: true if the network between is yours alone"
            )
        named = (self.token_file is not None) + (self.token_env is not None)
        if named > 1 or (named == 0 and self.needs_token):
            raise ValueError(
                "token_file is missing; name a file that holds the bridge's token and only you can read "
                "(or token_env, an environment variable, but not both)"
            )

    @property
    def makes_token(self) -> bool:
        """Whether the adapter makes the bridge's token, since these settings name none."""
        return self.token_file is None and self.token_env is None

    @property
    def needs_token(self) -> bool:
        """Whether a token must be configured; not where the gateway starts the bridge itself and makes the token."""
        return True

    def native_starts(self, platform: Platform) -> tuple[BridgeStart, ...]:
        """The bridges that the gateway starts itself; empty = the bridge is started elsewhere."""
        return ()

    def port_of(self, platform: Platform) -> int:
        """Return the bridge's port. Raises ConfigError when the platform has no default and none is configured."""
        port = self.port or PORTS.get(platform)
        if port is None:
            raise ConfigError(f"platform {platform.key!r}: settings.port is missing; write the port of its bridge")
        return port

    def read_token(self, where: str) -> str:
        """Return the token. It must never get into a log or on a command line.

        Raises:
            ConfigError: it is missing, too short, or its file is readable by others; `where` begins the message.
        """
        if self.token_env is not None:
            source, token = f"environment variable {self.token_env}", os.environ.get(self.token_env, "").strip()
        else:
            assert self.token_file is not None
            source, token = _read_file(Path(self.token_file).expanduser(), where)
        for what, number, least in (
            ("characters", len(token), MIN_TOKEN_CHARACTERS),
            # A program in the bridge's place is given a proof, and may guess the token from it as long as it likes.
            ("different characters", len(set(token)), MIN_TOKEN_VARIETY),
        ):
            if number < least:
                raise ConfigError(
                    f"{where}: the token in {source} had {number} {what}, must be at least {least}; make one with "
                    f"{MAKE_TOKEN}, and write it there and into the bridge's own settings"
                )
        return token


def _read_file(path: Path, where: str) -> tuple[str, str]:
    try:
        token = host.read_regular(path).decode().strip()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where}: token file {path} cannot be read ({error}); make it, with the token of the bridge in it"
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"{where}: token file {path} has mode {oct(mode)}, allowed is 0o600; run: chmod 600 {path}")
    return f"file {path}", token
