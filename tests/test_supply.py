"""The lock for CI and the constraints for users: each dependency of pyproject.toml, within its bounds, and no host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK, CONSTRAINTS = ROOT / ".ci" / "requirements.lock", ROOT / "constraints.txt"


def pins(path: Path) -> list[Requirement]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix("\\")) for line in lines if re.match(r"[a-z0-9]", line)]


def dependencies() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(x for extra in extras for x in extra),
    ]


@pytest.mark.parametrize("path", [LOCK, CONSTRAINTS], ids=["lock", "constraints"])
@pytest.mark.parametrize("dependency", dependencies())
def test_each_dependency_is_pinned_within_its_bounds(path: Path, dependency: str) -> None:
    wanted = Requirement(dependency)
    found = [pin for pin in pins(path) if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert found, f"{wanted.name} is not in {path.name}: run `make lock`"
    for pin in found:
        (version,) = (each.version for each in pin.specifier if each.operator == "==")
        assert wanted.specifier.contains(version, prereleases=True), (
            f"{path.name}: {pin}, must be {wanted}: `make lock`"
        )
        assert str(pin.marker) == str(wanted.marker), f"{path.name}: {pin}, must be on the systems of {wanted}"


def test_lock_and_constraints_name_the_same_versions() -> None:
    assert list(map(str, pins(LOCK))) == list(map(str, pins(CONSTRAINTS)))


def test_each_locked_version_has_hashes_and_no_file_names_a_host() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.read_text(encoding="utf-8"))[1:]
    assert len(entries) == len(pins(LOCK))
    assert all("--hash=sha256:" in entry for entry in entries)
    for path in (LOCK, CONSTRAINTS):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://|--(?!hash=)|@", text), f"{path.name} names where packages come from"


def test_what_an_installation_brings_stands_in_the_notice() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8").lower()
    for dependency in (*PROJECT["project"]["dependencies"], "llvmlite", "libzmq"):
        assert re.search(rf"^\W*{re.escape(Requirement(dependency).name.lower())}\b", notice, re.MULTILINE), dependency
    assert set(PROJECT["project"]["license-files"]) == {"LICENSE", "NOTICE"}
