"""Awaiting ticks in asyncio without a busy loop in the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from types import TracebackType

from .market_view import REFRESH_EVERY_S, MarketView


class TickWaiter:
    """Lets a coroutine wait until a MarketView has something to read.

    A thread watches the rings (with the GIL released) while a `wait` is pending, and sleeps otherwise. It only looks at
    the slots; the view is read and refreshed in the event loop's thread alone.

        async with TickWaiter(view) as waiter:
            while running:
                if await waiter.wait(timeout_s=1.0):
                    count = view.drain(out)
    """

    def __init__(self, view: MarketView) -> None:
        self._view = view
        self._wanted = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._deadline_s = 0.0
        self._thread = threading.Thread(target=self._watch, name="tick-waiter", daemon=True)

    async def __aenter__(self) -> TickWaiter:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._wanted.set()
        await asyncio.to_thread(self._thread.join)
        if self._ready is not None:
            _answer(self._ready, False)  # a pending wait: the thread may have ended without an answer to it

    async def wait(self, timeout_s: float) -> bool:
        """True as soon as a record can be read, False after `timeout_s`. One wait at a time.

        Raises:
            RuntimeError: called while another `wait` of this object is pending, or outside `async with`.
        """
        if self._loop is None or (self._ready is not None and not self._ready.done()):
            raise RuntimeError("TickWaiter.wait: enter `async with` first, and await one wait at a time")
        deadline_s = time.monotonic() + timeout_s
        while True:
            # In this thread, which alone may change the view. Inside the loop: the record may come in a new ring.
            self._view.refresh_if_due()
            left_s = deadline_s - time.monotonic()
            self._ready = self._loop.create_future()
            self._deadline_s = time.monotonic() + min(left_s, REFRESH_EVERY_S)
            self._wanted.set()
            if await self._ready:
                return True
            if self._stopping or left_s <= REFRESH_EVERY_S:
                return False

    def _watch(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            ready, deadline_s = self._ready, self._deadline_s
            found = False
            while not (found or self._stopping or self._wanted.is_set()):
                # Short turns, so that leaving `async with` is not held up by a long silence.
                left_s = deadline_s - time.monotonic()
                found = self._view.watch(min(max(left_s, 0.0), 0.1))
                if left_s <= 0.1:
                    break
            # If a new wait has begun, the old one was cancelled: its answer must not end the new one.
            if self._stopping:
                return
            if ready is not None and not self._wanted.is_set():
                assert self._loop is not None
                self._loop.call_soon_threadsafe(_answer, ready, found)


def _answer(ready: asyncio.Future[bool], found: bool) -> None:
    if not ready.done():
        ready.set_result(found)
