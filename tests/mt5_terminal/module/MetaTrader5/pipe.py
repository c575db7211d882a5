"""The line to the terminal: one request, one answer, blocking, without time-out, holding the interpreter throughout.

The real module talks over a named pipe with C calls that never release the interpreter. Functions called through
`ctypes.PyDLL` do not release it either, so every other Python thread stands still for as long as the terminal takes.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

PORT_FILE: Final = "terminal.port"
OPTIONS_FILE: Final = "stand_in.json"
LAUNCH_FILE: Final = "terminal.launch"
LAUNCH_PAUSE_S: Final = 0.5
HEADER: Final = struct.Struct("<II")
"""Length of the JSON part, length of the raw part behind it."""

_library = ctypes.PyDLL("ws2_32" if sys.platform == "win32" else None, use_errno=True)
for _function in (_library.recv, _library.send):
    _function.argtypes = [ctypes.c_size_t if sys.platform == "win32" else ctypes.c_int, ctypes.c_void_p]
    _function.argtypes += [ctypes.c_int if sys.platform == "win32" else ctypes.c_size_t, ctypes.c_int]
    _function.restype = ctypes.c_int if sys.platform == "win32" else ctypes.c_ssize_t
_WAIT_ALL: Final = 0x8 if sys.platform == "win32" else int(socket.MSG_WAITALL)
_NO_SIGNAL: Final = 0 if sys.platform == "win32" else int(getattr(socket, "MSG_NOSIGNAL", 0))


class PipeError(Exception):
    """`code`, `text`: what last_error will say."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Pipe:
    """An open line."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def exchange(self, name: str, arguments: list[Any]) -> tuple[dict[str, Any], bytearray]:
        """The answer to one call: its JSON part and its raw part.

        Raises:
            PipeError: -10001 when nothing could be sent, -10002 when no answer came.
        """
        body = json.dumps({"call": name, "arguments": arguments}).encode()
        masked = _mask_signals()  # a handler would run between two of our C calls, which no real call lets happen
        try:
            if self._is_broken():
                raise PipeError(-10001, "IPC send failed")
            self._send(HEADER.pack(len(body), 0) + body)
            json_bytes, raw_bytes = HEADER.unpack(self._receive(HEADER.size))
            return json.loads(self._receive(json_bytes)), self._receive(raw_bytes)
        finally:
            _restore_signals(masked)

    def close(self) -> None:
        self._line.close()

    def _is_broken(self) -> bool:
        """The other end is gone: writing into a pipe would fail at once, whereas TCP would take it."""
        try:
            return bool(select.select([self._line], [], [], 0)[0]) and not self._line.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _send(self, message: bytes) -> None:
        sent = 0
        while sent < len(message):
            part = message[sent:]
            count = _library.send(self._line.fileno(), part, len(part), _NO_SIGNAL)
            if count <= 0:
                raise PipeError(-10001, "IPC send failed")
            sent += count

    def _receive(self, size: int) -> bytearray:
        out = bytearray(size)
        got = 0
        while got < size:
            window = (ctypes.c_char * (size - got)).from_buffer(out, got)
            count = _library.recv(self._line.fileno(), window, size - got, _WAIT_ALL)
            if count <= 0:
                raise PipeError(-10002, "IPC recv failed")
            got += count
        return out


def open_pipe(exe: Path, portable: bool) -> Pipe:
    """Connect to the terminal at this path; launch it when it does not run, as the real module does.

    Raises:
        PipeError: -10003 when there is no such program, or it did not answer in time.
    """
    if not exe.is_file():
        raise PipeError(-10003, f"IPC initialize failed, Process create failed '{exe}'")
    folder = exe.resolve().parent
    wait_s = float(_read_options(folder).get("launch_wait_s", 100.0))
    is_launching = False
    for _ in range(max(1, round(wait_s / LAUNCH_PAUSE_S))):
        line = _connect(folder)
        if line is not None:
            return Pipe(line)
        if not is_launching:
            (folder / LAUNCH_FILE).write_text("/portable" if portable else "")
            is_launching = True
        _hold(min(LAUNCH_PAUSE_S, wait_s))
    raise PipeError(-10003, "IPC initialize failed, Pipe server didn't answer in 60 sec")


def wait_a_moment(seconds: float) -> None:
    """Sleep as the real module sleeps: with the interpreter held."""
    _hold(seconds)


def _connect(folder: Path) -> socket.socket | None:
    try:
        port = int((folder / PORT_FILE).read_text())
        line = socket.create_connection(("127.0.0.1", port))
    except (OSError, ValueError):
        return None
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A busy terminal accepts, and says nothing until it is free: the wait for it has no limit.
    pipe = Pipe(line)
    try:
        pipe.exchange("hello", [os.getpid()])
    except PipeError:
        line.close()
        return None
    return line


def _read_options(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / OPTIONS_FILE).read_text()))
    except FileNotFoundError:
        return {}


def _hold(seconds: float) -> None:
    if sys.platform == "win32":
        ctypes.PyDLL("kernel32").Sleep(int(seconds * 1000))
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ctypes.PyDLL(None).usleep(ctypes.c_uint(int(min(left, 0.9) * 1e6) + 1))


def _mask_signals() -> Any:
    if sys.platform == "win32":
        return None
    return signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _restore_signals(masked: Any) -> None:
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
