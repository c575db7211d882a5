"""What the terminal gives back to one call of the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

NOT_FOUND = (-4, "Terminal: Not found")
IPC_TEXTS = {-10000: "IPC call failed", -10001: "IPC send failed", -10002: "IPC recv failed", -10005: "IPC timeout"}


@dataclass
class Answer:
    """One answer, or what becomes of it.

    Attributes:
        code, text: what last_error will say.
        after_ms: given so much later.
        fate: never given (until `release`), or the connection breaks instead.
        begin: the request is carried out only after `after_ms`; gives the answer.
    """

    value: Any = None
    raw: bytes = b""
    code: int = 1
    text: str = "Success"
    after_ms: int = 0
    fate: Literal["", "never", "break"] = ""
    begin: Callable[[], Answer] | None = None


def refuse(error: tuple[int, str]) -> Answer:
    """A failed call."""
    return Answer(code=error[0], text=error[1])
