"""Who may import whom: the rules of the architecture, checked on every import statement and in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nexus_gateway.shm.layout as layout_module
import pytest
from nexus_gateway.shm import jit

_ROOT = Path(layout_module.__file__).resolve().parents[1]
_PACKAGES = ("shm", "core", "adapters", "nexus_link")
# What lies below the gateway and the launcher. `process`, `logs`, `secrecy`: the frame that every process runs in;
# `kill_file` is the operator's order that each of them obeys by itself.
_BASE_OF_CORE = {
    *("errors", "config", "messages", "transport", "instruments"),
    *("process", "logs", "secrecy", "kill_file"),
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


@pytest.mark.parametrize("module", ["counters", "segment", "run_folder", "symbols", "tick", "layout", "host", "idle"])
def test_modules_without_kernels_do_not_load_numba(module):
    # `status` only reads counters and must start at once.
    code = f"import sys, nexus_gateway.shm.{module}; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
