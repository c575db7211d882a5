"""Cores and the caches that they share: which process is pinned where, and which pinning costs latency.

Processes that exchange ticks belong on cores with a common last-level cache; two that spin must not share a core.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...shm import host
from ..config import RECORDER_NAME, GatewayConfig
from ..errors import ConfigError
from ..logs import Log

_SYS_CPU: Final = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Cache:
    """One cache. `kind`: Data, Instruction or Unified, as Linux names them. `cores`: those that share it, sorted."""

    level: int
    kind: str
    size_bytes: int
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """The cores that this process may use. `caches` and `siblings` are empty where the system does not list them.

    Attributes:
        cores: usable by this process, sorted.
        siblings: groups of two or more cores that are hardware threads of one physical core.
    """

    cores: tuple[int, ...]
    caches: tuple[Cache, ...] = ()
    siblings: tuple[tuple[int, ...], ...] = ()

    def describe(self) -> list[str]:
        """The machine as text, one fact per line."""
        lines = [f"cores: {show_cores(self.cores)}"]
        lines += [f"threads of one core: {show_cores(group)}" for group in self.siblings]
        lines += [
            f"L{cache.level} {cache.kind.lower()} cache, {cache.size_bytes >> 10} KiB: cores {show_cores(cache.cores)}"
            for cache in self.caches
            if len(cache.cores) > 1
        ]
        return lines

    def describe_pinning(self, pinned: Mapping[str, tuple[int, ...]]) -> list[str]:
        """The pinning as text, one line per process."""
        return [f"{name}: {'cores ' + show_cores(cores) if cores else 'any core'}" for name, cores in pinned.items()]

    def find_missing(self, pinned: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Process -> the cores among its pinned ones that this process may not use; only where there are any."""
        missing = {name: tuple(core for core in cores if core not in self.cores) for name, cores in pinned.items()}
        return {name: cores for name, cores in missing.items() if cores}

    def warn(self, pinned: Mapping[str, tuple[int, ...]], spinning: Collection[str] = ()) -> list[str]:
        """Find what in a pinning costs latency, one line per finding.

        Args:
            spinning: processes that wait with `busy_spin`: each takes a whole core.
        """
        warnings = []
        alone: dict[int, list[str]] = {}
        for name, cores in pinned.items():
            if len(cores) == 1:
                alone.setdefault(cores[0], []).append(name)
        for core, names in sorted(alone.items()):
            if len(names) > 1:
                warnings.append(f"core {core} is the only one of {', '.join(names)}: each waits while another runs")
        for group in self.siblings:
            names = [name for core in group for name in alone.get(core, [])]
            if len(names) > 1 and len({core for core in group if core in alone}) > 1:
                shared = f"threads {show_cores(group)} of one physical core"
                warnings.append(f"{', '.join(names)} are pinned to {shared}: they share its speed")
        if len(spinning) >= len(self.cores):
            warnings.append(
                f"{len(spinning)} processes spin on {len(self.cores)} cores, at most {len(self.cores) - 1} should; "
                "set `idle: backoff`"
            )
        for name in spinning:
            cores = pinned.get(name, ())
            if not cores:
                warnings.append(f"{name} spins and is pinned nowhere: the system moves it; give it a core of its own")
                continue
            guests = [other for other, theirs in pinned.items() if other != name and set(theirs) & set(cores)]
            if guests:
                warnings.append(f"{name} spins on cores {show_cores(cores)}, which {', '.join(guests)} use too")
        return warnings + self._warn_far_apart(pinned)

    def _warn_far_apart(self, pinned: Mapping[str, tuple[int, ...]]) -> list[str]:
        last_level = max((cache.level for cache in self.caches), default=0)
        used = {core for cores in pinned.values() for core in cores}
        homes = [cache.cores for cache in self.caches if cache.level == last_level and used & set(cache.cores)]
        if len(homes) < 2:
            return []
        groups = " | ".join(show_cores(cores) for cores in homes)
        return [f"pinned cores share no last-level cache ({groups}): ticks between them take several times longer"]


def read_topology(sys_cpu: Path = _SYS_CPU) -> Topology:
    """Read the machine's cores, caches and hardware threads. The last two are empty on systems other than Linux."""
    cores = host.available_cores()
    caches: dict[tuple[int, str, tuple[int, ...]], Cache] = {}
    siblings = set()
    for core in cores:
        for index in sorted((sys_cpu / f"cpu{core}" / "cache").glob("index*")):
            level, kind, size, shared = (_read(index / name) for name in ("level", "type", "size", "shared_cpu_list"))
            if level and kind and size and shared:
                cache = Cache(int(level), kind, _parse_size(size), parse_cores(shared))
                caches[(-cache.level, cache.kind, cache.cores)] = cache
        group = _read(sys_cpu / f"cpu{core}" / "topology" / "thread_siblings_list")
        if group and len(parse_cores(group)) > 1:
            siblings.add(parse_cores(group))
    return Topology(cores, tuple(caches[key] for key in sorted(caches)), tuple(sorted(siblings)))


def check_pinning(config: GatewayConfig, pinned: Mapping[str, tuple[int, ...]], log: Log) -> None:
    """Log the machine, the pinning of the processes, and what about it will cost latency.

    Raises:
        ConfigError: a process is pinned to cores that this machine does not have or this process may not use.
    """
    topology = read_topology()
    missing = topology.find_missing(pinned)
    if missing:
        raise ConfigError(
            "\n".join(
                f"cores of {name} was {list(cores)}, usable here are {list(topology.cores)}; correct `cores`"
                for name, cores in missing.items()
            )
        )
    log.info("topology", machine=topology.describe(), pinning=topology.describe_pinning(pinned))
    for name in config.cores.keys() - pinned.keys():
        log.warning("cores are given to a process that is not started", child=name)
    # An adapter waits for its platform and the recorder sleeps between polls: only readers of rings spin.
    never_spin = {*config.platforms, RECORDER_NAME}
    spinning = [name for name in pinned if config.idle == "busy_spin" and name not in never_spin]
    for warning in topology.warn(pinned, spinning):
        log.warning("pinning costs latency", finding=warning)


def parse_cores(text: str) -> tuple[int, ...]:
    """Parse a Linux list of cores such as "0-3,8"."""
    cores: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return tuple(cores)


def show_cores(cores: tuple[int, ...]) -> str:
    """The shortest list that `parse_cores` reads: "0-3,8"."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(cores) + 1):
        if end == len(cores) or cores[end] != cores[end - 1] + 1:
            first, last = cores[start], cores[end - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = end
    return ",".join(parts)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""  # containers and other systems leave these files out


def _parse_size(text: str) -> int:
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)
