"""Two hosts on one machine: network namespaces joined by a link with delay, loss and cuts. Linux, root.

The link is a pair of TUN devices and a thread that passes packets between them: many kernels have no `netem`.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from types import TracebackType
from typing import Self

import pytest

HERE, THERE = "10.77.0.1", "10.77.0.2"
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_numbers = itertools.count(1)


class TwoHosts:
    """A context manager.

    Attributes:
        here, there: names of the namespaces, for `ip netns exec`; their addresses are HERE and THERE.
        is_cut: while true every packet is dropped.
        passed, dropped: packets.
    """

    def __init__(self, *, delay_ms: float, loss: float, seed: int = 1) -> None:
        self.is_cut = False
        self.passed = self.dropped = 0
        self._delay_s, self._loss, self._random = delay_ms / 1000, loss, random.Random(seed)
        mark = f"{os.getpid() % 100_000}x{next(_numbers)}"
        self.here, self.there = f"nxa{mark}", f"nxb{mark}"
        self._devices: list[int] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._pass_packets)

    def __enter__(self) -> Self:
        try:
            for name, own, other in ((self.here, HERE, THERE), (self.there, THERE, HERE)):
                _run("ip", "netns", "add", name)
                device = os.open("/dev/net/tun", os.O_RDWR)
                self._devices.append(device)
                fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
                _run("ip", "link", "set", name, "netns", name)
                _run("ip", "-n", name, "addr", "add", own, "peer", other, "dev", name)
                _run("ip", "-n", name, "link", "set", name, "up")
                _run("ip", "-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            pytest.skip(f"this machine has no network namespaces for us: {error}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._remove()

    def command(self, host: str, *arguments: str) -> list[str]:
        """The command that runs `arguments` on one of the hosts."""
        return ["ip", "netns", "exec", host, *arguments]

    def _remove(self) -> None:
        for device in self._devices:
            os.close(device)
        self._devices.clear()
        for name in (self.here, self.there):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    def _pass_packets(self) -> None:
        one, other = self._devices
        waiting: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        while not self._stopping.is_set():
            now_s = time.monotonic()
            wait_s = 0.05 if not waiting else min(0.05, max(0.0, waiting[0][0] - now_s))
            for device in select.select([one, other], [], [], wait_s)[0]:
                packet = os.read(device, 65_536)
                if self.is_cut or self._random.random() < self._loss:
                    self.dropped += 1
                    continue
                to = other if device == one else one
                heapq.heappush(waiting, (time.monotonic() + self._delay_s, next(numbers), to, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(waiting)
                if self.is_cut:
                    self.dropped += 1
                    continue
                self.passed += 1
                try:
                    os.write(to, packet)
                except OSError:
                    self.dropped += 1  # the namespace goes away


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
