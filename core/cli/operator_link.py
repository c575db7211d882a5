"""The link of the operator's commands to a running gateway: one request, its answer, or an error when none comes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import zmq

from ..config import GatewayConfig
from ..errors import GatewayError, GatewaySilentError
from ..messages import AdminResult, Hello, Message, Query, QueryKind, Reject, Role, Welcome
from ..transport import (
    NEXUS_LINK,
    OPERATOR,
    LinkClient,
    LinkTiming,
    client_endpoint,
    read_client_keys,
)


class OperatorLink:
    """A link for one command; a context manager. Used by one thread.

    Attributes:
        welcome: the gateway's answer to our hello, with stage and kill level.
    """

    def __init__(self, config: GatewayConfig, timeout_s: float) -> None:
        """
        Raises:
            GatewaySilentError: no gateway answers within `timeout_s`.
            GatewayError: the gateway refuses the link.
            ConfigError: the operator's keys cannot be read.
        """
        orders = config.orders
        if not config.keys_path.exists():
            raise GatewaySilentError(f"no gateway has run in {config.run_path}; start one with: nexus-gateway run")
        keys_folder = config.keys_path / OPERATOR
        read_client_keys(keys_folder)  # at once: a file that is wrong stays wrong
        hello = Hello(role=Role.ADMIN, name=f"operator-{os.getpid()}", boot_id=str(os.getpid()))
        timing = LinkTiming(heartbeat_ms=orders.heartbeat_ms, mute_after_ms=orders.mute_after_ms)
        endpoint = client_endpoint(config.run_path, NEXUS_LINK, orders.host, orders.nexus_port)
        self._client = LinkClient(endpoint, hello, keys_folder, timing, queue_messages=orders.queue_messages)
        self._received: list[Message] = []
        try:
            self.welcome: Welcome = self._connect(config, timeout_s)
        except BaseException:
            self._client.close()
            raise

    def ask(self, body: Message, is_answered: Callable[[list[Message]], bool], timeout_s: float) -> list[Message]:
        """Send `body` and collect messages until `is_answered(messages)`.

        Raises:
            GatewaySilentError: the time is up, or the link broke; `received` keeps what came before.
            GatewayError: the gateway rejected `body`.
        """
        self._received = []
        if not self._client.send(body):
            raise GatewaySilentError(f"the gateway went away: {self._client.cut_reason}")
        deadline_s = time.monotonic() + timeout_s
        while not is_answered(self._received):
            if not self._receive(deadline_s):
                raise GatewaySilentError(f"the gateway did not answer within {timeout_s:g} s")
            for reject in (body for body in self._received if isinstance(body, Reject)):
                raise GatewayError(f"refused ({reject.code.value}): {reject.text}")
            if not self._client.is_up and not is_answered(self._received):
                raise GatewaySilentError(f"the gateway went away: {self._client.cut_reason}")
        return self._received

    def query(self, what: QueryKind, platform: str, timeout_s: float) -> list[Message]:
        """All answers to a query. Raises as `ask` does.

        The number of answers is not known beforehand. The gateway answers in order, so a second request, for the
        status, shows by its answer that all of the first have arrived.
        """
        self.ask(Query(request_id=1, what=what, platform=platform), lambda received: True, timeout_s)
        received = self.ask(
            Query(request_id=2, what=QueryKind.STATUS),
            lambda received: _find_result(received, 2) is not None,
            timeout_s,
        )
        return [body for body in received if not isinstance(body, AdminResult)]

    def command(self, body: Message, request_id: int, timeout_s: float) -> AdminResult:
        """Send a command that the gateway answers once; returns the answer. Raises as `ask` does."""
        received = self.ask(body, lambda received: _find_result(received, request_id) is not None, timeout_s)
        result = _find_result(received, request_id)
        assert result is not None
        return result

    @property
    def received(self) -> list[Message]:
        """Messages since the last request was sent."""
        return self._received

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, config: GatewayConfig, timeout_s: float) -> Welcome:
        deadline_s = time.monotonic() + timeout_s
        while True:
            in_time = self._receive(deadline_s)
            for body in self._received:
                if isinstance(body, Welcome):
                    return body
            if self._client.refusal is not None:
                raise GatewayError(f"the gateway refused this command: {self._client.refusal.text}")
            if not in_time:
                raise GatewaySilentError(
                    f"the gateway of {config.run_path} does not answer (waited {timeout_s:g} s); is it running? "
                    "see: nexus-gateway status"
                )

    def _receive(self, deadline_s: float) -> bool:
        """Wait for messages and keep them in `received`; False when the time is up."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        wait_ms = min(int(left_s * 1000) + 1, self._client.wait_ms(), 100)
        socket = self._client.socket
        if socket is not None:
            socket.poll(wait_ms, zmq.POLLIN)
        else:
            time.sleep(wait_ms / 1000)
        self._received += self._client.receive()
        self._client.tick()
        return True


def _find_result(received: list[Message], request_id: int) -> AdminResult | None:
    for body in received:
        if isinstance(body, AdminResult) and body.request_id == request_id:
            return body
    return None
