"""A program without any key that has taken a port of the gateway."""

from __future__ import annotations

import socket as plain
import threading

NO_SECURITY = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32) + b"\x04\x06\x05READY"
"""What a ZeroMQ socket says that wants no security."""


class Impostor:
    """Takes the gateway's port, keeps every byte that it is sent, and answers with what a handshake might want."""

    def __init__(self, port: int, answer: bytes) -> None:
        self.heard = bytearray()
        self._answer = answer
        self._listener = plain.create_server(("127.0.0.1", port))
        self._stopping = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listener.settimeout(0.05)
        open_now: list[plain.socket] = []
        while not self._stopping:
            try:
                one, _ = self._listener.accept()
                one.settimeout(0.05)
                one.sendall(self._answer)
                open_now.append(one)
            except TimeoutError:
                pass
            for one in open_now:
                try:
                    self.heard += one.recv(1 << 16)
                except OSError:
                    pass
        for one in [*open_now, self._listener]:
            one.close()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
