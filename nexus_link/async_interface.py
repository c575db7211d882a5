"""`NexusGatewayInterface` for asyncio: the same calls, awaited. Their promises are described in `interface.py`."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from types import TracebackType
from typing import TypeVar

from ..core.logs import Log
from ..core.messages import Positions, Signal
from .interface import DISK_TIMEOUT_S, InterfaceBase
from .orders.link import Change, News
from .orders.options import LinkOptions
from .orders.outcomes import SignalOutcome

T = TypeVar("T")


class AsyncNexusGatewayInterface(InterfaceBase):
    """Used by one event loop, in which the callbacks are called as well.

    Callbacks are plain functions: to await something, put the news into an `asyncio.Queue`. Cancelling a task that
    awaits one of the calls ends the wait; a signal that was given to `send_signal` is sent all the same.
    """

    def __init__(self, options: LinkOptions | None = None, log: Log | None = None) -> None:
        """Nothing happens before `connect`. `options` None = `gateway_options()`."""
        super().__init__(options, log, self._call_in_loop)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self, timeout_s: float = 5.0) -> bool:
        """See `NexusGatewayInterface.connect`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            try:
                await asyncio.to_thread(self._link.start)
            except BaseException:
                self._loop = None  # or a second call would wait for a link that was never started
                raise
        return await asyncio.to_thread(self._link.wait_up, timeout_s)

    async def send_signal(self, signal: Signal, timeout_s: float = 5.0) -> SignalOutcome:
        """See `NexusGatewayInterface.send_signal`."""
        kept, answer = self._link.submit(signal)
        try:
            await _result(kept, max(timeout_s, DISK_TIMEOUT_S))
            return await _result(answer, timeout_s)
        except TimeoutError:
            return self._link.outcome_after_timeout(signal.signal_id, timeout_s)

    async def wait_settled(self, signal_id: str, timeout_s: float = 30.0) -> SignalOutcome:
        """See `NexusGatewayInterface.wait_settled`."""
        try:
            return await _result(self._link.wait_settled(signal_id), timeout_s)
        except TimeoutError:
            return self._link.outcome_after_timeout(signal_id, timeout_s)

    async def change_signal(self, request: Change) -> bool:
        """See `NexusGatewayInterface.change_signal`; waits until the link's thread has answered."""
        return await _result(self._link.change(request))

    async def ask_positions(self, timeout_s: float = 5.0) -> tuple[Positions, ...]:
        """See `NexusGatewayInterface.ask_positions`."""
        return await _result(self._link.positions(), timeout_s)

    async def forget_signal(self, signal_id: str) -> bool:
        """See `NexusGatewayInterface.forget_signal`; waits until the link's thread has answered."""
        return await _result(self._link.forget(signal_id))

    async def close(self) -> None:
        """See `NexusGatewayInterface.close`; callbacks may still be queued in the event loop when this returns."""
        await asyncio.to_thread(self._link.close)

    async def __aenter__(self) -> AsyncNexusGatewayInterface:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _call_in_loop(self, news: News) -> None:
        # Called by the link's thread, which must neither wait nor raise: a loop that was closed gets no more news.
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._notifier.notify, news)


async def _result(future: Future[T], timeout_s: float | None = None) -> T:
    return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
