"""Who may import whom: the rules of the architecture, checked on every import statement and in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import nexus_gateway.shm.layout as layout_module
import pytest
from nexus_gateway.shm import jit

_ROOT = Path(layout_module.__file__).resolve().parents[1]
_PACKAGES = ("shm", "core", "adapters", "nexus_link")
# What lies below the gateway and the launcher. `process`, `logs`: the frame that every process runs in;
# `kill_file`: a person's kill instruction that each of them obeys by itself.
_BASE_OF_CORE = {
    *("errors", "config", "messages", "transport", "instruments"),
    *("process", "logs", "kill_file", "bounds"),
}


def sources(package):
    return sorted((_ROOT / package).rglob("*.py"))


def imported(path):
    """Dotted names below `nexus_gateway` that a file imports, resolved: ("core.errors", "NexusError")."""
    inside = list(path.relative_to(_ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("nexus_gateway."):
                    yield alias.name.removeprefix("nexus_gateway."), ""
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = inside[: len(inside) - node.level]
                module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            elif (node.module or "").startswith("nexus_gateway"):
                module = (node.module or "").removeprefix("nexus_gateway").strip(".")
            else:
                continue
            for alias in node.names:
                yield module, alias.name


def reached(path):
    """Our packages, and in them the modules, that a file imports: {("core", "errors"), ...}."""
    for module, name in imported(path):
        parts = [*module.split("."), name] if module else [name]
        yield parts[0], parts[1] if len(parts) > 1 else ""


def test_the_walk_sees_relative_imports():
    assert ("shm", "layout") in set(reached(_ROOT / "shm" / "tick.py"))
    assert ("shm", "segment") in set(reached(_ROOT / "shm" / "writer.py"))


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("shm", {"shm"}),
        ("core", {"core", "shm"}),
        ("adapters", {"adapters", "shm", "core"}),
        ("nexus_link", {"nexus_link", "shm", "core"}),
    ],
)
def test_packages_import_only_what_lies_below_them(package, allowed):
    for path in sources(package):
        for target, module in reached(path):
            assert target in allowed, f"{path.relative_to(_ROOT)} imports {target}.{module}"
            if target == "core" and package in ("adapters", "nexus_link"):
                assert module in _BASE_OF_CORE, f"{path.relative_to(_ROOT)} imports core.{module}"


@pytest.mark.parametrize("module", sorted(_BASE_OF_CORE))
def test_the_base_of_core_imports_nothing_above_it(module):
    # Else an adapter would pull the gateway and its journal into its own process through a base module.
    for path in [_ROOT / "core" / f"{module}.py", *sources(f"core/{module}")]:
        if path.exists():
            # `risk` is pure rules: the configuration checks the limits with their own types.
            above = {name for target, name in reached(path) if target == "core"} - _BASE_OF_CORE - {"risk"}
            assert not above, f"{path.relative_to(_ROOT)} imports {sorted(above)}"


# The rooms of a folder, lowest first. A room imports only rooms of earlier lines, none of its own line.
_LAYERS = {
    "core": (
        "errors bounds",
        "instruments logs messages",
        "risk kill_file transport",
        "config engine",
        "journal process",
        "gateway launcher recorder",
        "cli",
    ),
    "core/engine": (
        "effects settings",
        "state events",
        "turn",
        "clock",
        "orders retention",
        "admission invariants timers",
        "rolls",
        "signals",
        "operator",
        "engine",
    ),
    "adapters": (
        "symbol_watch feed waiting formats",
        "base",
        "paper orders simulator replay",
        "session",
        "order_settings",
        "runner bridge",
        "certify mt5",
    ),
    "nexus_link": (
        "market_view orders",
        "interface sizing async_ticks",
        "communication async_interface",
        "example",
        "nexus_ai",
    ),
}
_PLATFORMS = {"mt5", "nt8", "quantower", "sierra", "bookmap", "simulator", "replay"}
# Most rooms and floors that a folder may have; folders of platforms are not counted.
_BUDGETS = {"core": (16, 7), "core/engine": (15, 10), "adapters": (16, 7), "nexus_link": (10, 5), "shm": (23, 7)}


def folders():
    """Every folder of ours with Python files in it, as text below the root."""
    below = {path.parent for package in _PACKAGES for path in sources(package)}
    return sorted(path.relative_to(_ROOT).as_posix() for path in below)


def rooms_of(folder):
    """The files and folders side by side in `folder`, each with the set of its neighbours that it imports."""
    own = tuple(folder.split("/"))
    files = {}
    for path in sources(folder):
        first, *rest = path.relative_to(_ROOT / folder).with_suffix("").parts
        if rest or first not in ("__init__", "__main__"):
            files.setdefault(first, []).append(path)
    edges = {}
    for room, paths in files.items():
        targets = {(*module.split("."), name) for path in paths for module, name in imported(path) if module}
        inside = {target[len(own)] for target in targets if target[: len(own)] == own and len(target) > len(own)}
        edges[room] = inside & files.keys() - {room}
    return edges


def floor_of(room, edges, above=()):
    """How many rooms the longest chain of imports under `room` has, itself counted. Fails on a circle."""
    assert room not in above, f"circle: {' -> '.join([*above[above.index(room) :], room])}"
    return 1 + max((floor_of(other, edges, (*above, room)) for other in sorted(edges[room])), default=0)


@pytest.mark.parametrize("folder", folders())
def test_no_folder_has_a_circle_or_more_rooms_and_floors_than_its_budget(folder):
    edges = rooms_of(folder)
    floors = max((floor_of(room, edges) for room in edges), default=0)
    counted = edges.keys() - _PLATFORMS
    arrows = sum(map(len, edges.values()))
    print(f"{folder}: {len(counted)} rooms, {floors} floors, {arrows} arrows")
    most_rooms, most_floors = _BUDGETS.get(folder, (25, 9))
    assert len(counted) <= most_rooms
    assert floors <= most_floors


@pytest.mark.parametrize("folder", sorted(_LAYERS))
def test_rooms_import_only_rooms_of_lower_layers(folder):
    layers = [line.split() for line in _LAYERS[folder]]
    floor = {room: number for number, line in enumerate(layers) for room in line}
    edges = rooms_of(folder)
    assert edges.keys() == floor.keys(), "a new room needs its place in a layer here"
    for room, others in edges.items():
        for other in others:
            assert floor[other] < floor[room], f"{folder}: {room} imports {other}, which is not below it"


def test_the_walk_sees_circles():
    with pytest.raises(AssertionError, match="circle: a -> b -> a"):
        floor_of("a", {"a": {"b"}, "b": {"a"}})


def test_every_folder_is_packaged():
    # A folder that the list lacks is missing in the wheel, while the editable install of a developer has it.
    listed = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    named = {name for name in listed if not name.startswith("nexus_gateway.bridges")}
    assert named == {"nexus_gateway." + folder.replace("/", ".") for folder in folders()}


def test_the_launcher_names_adapters_only_as_strings():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources("core"))
    assert "from ..adapters" not in text
    assert "import_module" not in "".join(path.read_text(encoding="utf-8") for path in sources("shm")), (
        "a rule about imports must not be walked around"
    )


def test_bridges_import_nothing_of_ours():
    for path in sources("bridges"):
        own = ".".join(path.relative_to(_ROOT).parts[:-1])
        outside = [target for target, _ in imported(path) if f"{target}.".partition(f"{own}.")[0]]
        assert not outside, f"{path.relative_to(_ROOT)} imports {outside}"


def test_kernels_are_made_only_where_the_cache_key_looks():
    hot = {folder.name for folder in jit.HOT_FOLDERS}
    assert hot == {"shm", "adapters", "nexus_link"}
    for package in _PACKAGES:
        for path in sources(package):
            takes_kernel = any(module == "shm.jit" or name == "jit" for module, name in imported(path))
            assert package in hot or not takes_kernel, (
                f"{path.relative_to(_ROOT)} makes kernels outside the hot folders"
            )


def test_numba_is_compiled_with_through_one_module():
    # Anywhere else `cache=True` would bring the stale cache back.
    for package in _PACKAGES:
        for path in sources(package):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "cache":
                    assert path == _ROOT / "shm" / "jit.py", f"{path.relative_to(_ROOT)} caches kernels by itself"


@pytest.mark.processes
@pytest.mark.parametrize("module", ["counters", "segment", "run_folder", "symbols", "tick", "layout", "host", "idle"])
def test_modules_without_kernels_do_not_load_numba(module):
    # `status` only reads counters and must start at once.
    code = f"import sys, nexus_gateway.shm.{module}; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
