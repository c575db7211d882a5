"""The only place that makes ZeroMQ sockets: the DEALER of a client, and what its handshake came to.

Queues are bounded on both sides. Sending into a full one fails, and the caller cuts the link. A socket that drops
messages silently, as PUB does, would lose orders and fills without a trace.
"""

from __future__ import annotations

import uuid
from typing import Final

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from ..errors import ConfigError
from .connection import MAX_WIRE_MESSAGE_BYTES
from .keys import ClientKeys, key_text

_HANDSHAKE_MS: Final = 5_000
_RECONNECT_MS: Final = 50
_RECONNECT_MAX_MS: Final = 500
_REFUSED: Final = zmq.EVENT_HANDSHAKE_FAILED_AUTH
_UNPROVEN: Final = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_CUT_SHORT: Final = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
_WATCHED: Final = _REFUSED | _UNPROVEN | _CUT_SHORT | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECTED


class ClientSocket:
    """A DEALER that connects in the background, as soon as a gateway is there that proves its key. One thread owns it.

    libzmq sends nothing of ours before that proof: another program that has taken the port hears nothing.
    """

    def __init__(self, endpoint: str, queue_messages: int, keys: ClientKeys) -> None:
        """Raises ConfigError: the endpoint is not valid, or there are no descriptors for it."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        made: list[zmq.Socket[bytes]] = []
        try:
            made.append(context.socket(zmq.DEALER))
            made.append(context.socket(zmq.PAIR))
        except zmq.ZMQError as error:
            for each in made:
                each.close(0)
            raise ConfigError(f"no socket could be made for {endpoint}: {zmq.strerror(error.errno or 0)}") from error
        self.socket, self._events = made
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDHWM, queue_messages),
            (zmq.RCVHWM, queue_messages),
            (zmq.MAXMSGSIZE, MAX_WIRE_MESSAGE_BYTES),
            (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS),
        ):
            self.socket.setsockopt(option, value)
        if endpoint.startswith("tcp://["):
            self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(keys.gateway))
        self.socket.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(keys.own.public))
        self.socket.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(keys.own.secret))
        watch = f"inproc://handshake-{uuid.uuid4().hex}"
        self.socket.monitor(watch, _WATCHED)
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(watch)
        self._endpoint = endpoint
        self._own_key = key_text(keys.own.public)
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"endpoint was {endpoint!r}: {zmq.strerror(error.errno or 0)}; correct it") from error

    def pop_fault(self) -> str:
        """What kept the handshake from a proof since the last call, in words; empty = nothing did."""
        fault = ""
        while True:
            try:
                event = parse_monitor_message(self._events.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return fault
            if event["event"] & _REFUSED:
                fault = (
                    f"the gateway at {self._endpoint} does not allow our key {self._own_key}; allow it there: "
                    "nexus-gateway keys allow"
                )
            elif event["event"] & _UNPROVEN:
                fault = (
                    f"what listens at {self._endpoint} has not proved that it is our gateway; nothing was sent to it. "
                    "Is another program on that port, or has the gateway new keys?"
                )
            elif event["event"] & _CUT_SHORT:
                fault = (
                    f"the connection to {self._endpoint} ended before it was proved who listens there; nothing was "
                    "sent. A gateway that stops or is busy does that; if it goes on, another program has the port, or "
                    "the gateway has new keys"
                )
            elif event["event"] & zmq.EVENT_HANDSHAKE_SUCCEEDED:
                fault = ""

    def close(self) -> None:
        """Close at once; what waits to be sent is dropped."""
        self.socket.disable_monitor()
        self._events.close(0)
        self.socket.close(0)
