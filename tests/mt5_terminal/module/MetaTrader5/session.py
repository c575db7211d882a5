"""The one line of a process to its terminal, the one error pair, and the functions that open and close the line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from . import arguments as take
from .arguments import ArgumentError, LeftoverError
from .pipe import Pipe, PipeError, open_pipe, wait_a_moment

Function = Callable[..., Any]

_SUCCESS: Final = (1, "Success")
_LOGIN_POLL_MS: Final = 100


class _State:
    pipe: Pipe | None = None
    error: tuple[int, str] = _SUCCESS


def guarded(failure: Any) -> Callable[[Function], Function]:
    """For a function that takes keywords. Reset the error pair, run; a refusal or failure gives `failure`."""

    def decorate(body: Function) -> Function:
        def function(*values: Any, **keywords: Any) -> Any:
            _State.error = _SUCCESS
            try:
                return body(*values, **keywords)
            except LeftoverError as left:
                _State.error = (-2, str(left))
                what = f"<built-in function {function.__name__}> returned a result with an exception set"
                raise SystemError(what) from left.__cause__
            except ArgumentError as refusal:
                _State.error = (-2, str(refusal))
            except PipeError as broken:
                _State.error = (broken.code, broken.text)
            return failure

        function.__name__ = function.__qualname__ = body.__name__
        return function

    return decorate


def positional(failure: Any) -> Callable[[Function], Function]:
    """For a function that takes no keyword."""

    def decorate(body: Function) -> Function:
        checked = guarded(failure)(body)

        def function(*values: Any) -> Any:
            return checked(*values)

        function.__name__ = function.__qualname__ = body.__name__
        return function

    return decorate


def bare(body: Function) -> Function:
    """For a function that takes nothing and gives None when it fails."""
    checked = guarded(None)(body)

    def function() -> Any:
        return checked()

    function.__name__ = function.__qualname__ = body.__name__
    return function


def ask(name: str, *values: Any) -> tuple[Any, bytearray]:
    """One call of the terminal: value and raw part of its answer.

    Raises:
        PipeError: no line, a broken one, or the terminal's own refusal.
    """
    if _State.pipe is None:
        raise PipeError(-10004, "No IPC connection")
    try:
        answer, raw = _State.pipe.exchange(name, list(values))
    except PipeError as broken:
        if broken.code == -10002:
            _close()  # a broken read closes the handle (the next call finds none), a failed write does not
        raise
    if answer["code"] != 1:
        raise PipeError(answer["code"], answer["text"])
    return answer["value"], raw


def last_error() -> tuple[int, str]:
    return _State.error


def shutdown() -> bool:
    _State.error = _SUCCESS
    _close()
    return True


@guarded(False)
def initialize(*values: Any, **keywords: Any) -> bool:
    _close()  # calling it again is a legal reconnect
    if len(values) > 1:
        raise ArgumentError("Invalid number of arguments")
    path = take.take_text(values[0], take.MAX_PATH, "Invalid 1st unnamed argument") if values else ""
    login, password, server = _take_login(keywords)
    timeout_ms = take.take_unsigned(keywords.get("timeout", 0), take.U32, 'Invalid "timeout" argument')
    path = take.take_text(keywords.get("path", path), take.MAX_PATH, 'Invalid "path" argument')
    if not path:
        raise PipeError(-10003, "IPC initialize failed, MetaTrader 5 x64 not found")
    _State.pipe = open_pipe(Path(path), bool(keywords.get("portable", False)))
    try:
        if login or password or server:
            _authorise(login, password, server)
        _wait_ready(timeout_ms)
    except PipeError:
        _close()
        raise
    return True


@guarded(False)
def login(*values: Any, **keywords: Any) -> bool:
    if len(values) > 3:
        raise ArgumentError("Invalid number of arguments")
    named = dict(keywords)
    for (name, place), value in zip((("login", "1st"), ("password", "2nd"), ("server", "3rd")), values, strict=False):
        if not isinstance(value, int if name == "login" else str):
            raise ArgumentError(f"Invalid {place} unnamed argument")
        named.setdefault(name, value)
    number, password, server = _take_login(named)
    if not number:
        raise ArgumentError('Invalid "login" argument')
    _authorise(number, password, server)
    return True


def _take_login(keywords: dict[str, Any]) -> tuple[int, str, str]:
    return (
        take.take_unsigned(keywords.get("login", 0), take.U64, 'Invalid "login" argument'),
        take.take_text(keywords.get("password", ""), take.MAX_PASSWORD, 'Invalid "password" argument'),
        take.take_text(keywords.get("server", ""), take.MAX_SERVER, 'Invalid "server" argument'),
    )


def _authorise(number: int, password: str, server: str) -> None:
    if ask("login", number, password, server)[0] == "refused":
        raise PipeError(-6, "Terminal: Authorization failed")


def _wait_ready(timeout_ms: int) -> None:
    """Until the terminal is logged in: it is asked every 100 ms, and a timeout of 0 means a minute."""
    waited_ms = 0
    while waited_ms < (timeout_ms or 60_000):
        state, _ = ask("state")
        if state == "ready":
            return
        if state == "refused":
            raise PipeError(-6, "Terminal: Authorization failed")
        wait_a_moment(_LOGIN_POLL_MS / 1000)
        waited_ms += _LOGIN_POLL_MS
    raise PipeError(-10005, "IPC timeout")


def _close() -> None:
    pipe, _State.pipe = _State.pipe, None
    if pipe is not None:
        pipe.close()
