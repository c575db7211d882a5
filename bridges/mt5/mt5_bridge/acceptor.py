"""Connections that adapters open: accepted, limited in number, dropped when they are over."""

from __future__ import annotations

import socket

from .connection import Link
from .constants import COMPLAIN_S, MAX_WITHOUT_SESSION
from .greeting import make_challenge
from .session import Session


class Acceptor:
    """Holds the connections of the listening port; the oldest without a session makes room for a new one.

    Attributes:
        links: all open connections, the session's included.
    """

    def __init__(self, listener: socket.socket, platform: str, boot_id: str, session: Session) -> None:
        self.listener = listener
        self.links: list[Link] = []
        self._platform = platform
        self._boot_id = boot_id
        self._session = session
        self._crowded_out = 0
        self._crowd_due_s = 0.0

    def accept(self, now_s: float) -> None:
        """Accept the waiting connection and send it the challenge."""
        try:
            connection, _ = self.listener.accept()
            link = Link(connection, now_s)
        except OSError:
            return  # closed before it was accepted
        without_session = [link for link in self.links if link is not self._session.link]
        if len(without_session) >= MAX_WITHOUT_SESSION:
            without_session[0].close()
            self._crowded_out += 1
            if now_s >= self._crowd_due_s:
                self._crowd_due_s = now_s + COMPLAIN_S
                self._session.notice(
                    "warning", f"{self._crowded_out} connections were closed to make room, none had logged in"
                )
        self.links.append(link)
        link.queue(make_challenge(link.nonce, self._platform, self._boot_id))

    def drop_dead(self) -> None:
        """Remove the connections that are closed; ends the session when its connection is one of them."""
        for link in [each for each in self.links if each.is_over]:
            self.links.remove(link)
            if link is self._session.link:
                self._session.forget()
