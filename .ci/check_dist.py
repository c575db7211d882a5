"""Build the wheel three times and the sdist once; check that the wheels are the same bytes and the sdist is whole.

Usage: python .ci/check_dist.py FOLDER. The wheel and the sdist are left in FOLDER. Needs `build` and setuptools in
this Python, and git: the files that count are those that git knows, as they are in the working tree.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ("PKG-INFO", "setup.cfg", "nexus_gateway.egg-info/")
"""What setuptools adds to an sdist."""


def copy_tree(names: list[str], target: Path, umask: int) -> Path:
    """Copy the named files with the modes that a checkout under this umask gives them."""
    before = os.umask(umask)
    for name in names:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
        copy.chmod((0o777 if os.access(ROOT / name, os.X_OK) else 0o666) & ~umask)
    os.umask(before)
    return target


def build(kind: str, source: Path, target: Path, umask: int) -> Path:
    """Build a wheel or an sdist of `source` in the folder `target` and return its file."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)]
    done = subprocess.run(command, umask=umask, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nbuilding the {kind} of {source} failed")
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def members(wheel: Path) -> set[tuple[object, ...]]:
    """Return all that two wheels can differ in, by member."""
    with zipfile.ZipFile(wheel) as opened:
        return {(i.filename, i.date_time, oct(i.external_attr >> 16), i.file_size, i.CRC) for i in opened.infolist()}


def check_same_bytes(wheels: list[Path]) -> None:
    """End the program when two wheels differ, and say in what."""
    hashes = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
    if len(set(hashes)) != 1:
        differing = set.union(*map(members, wheels)) - set.intersection(*map(members, wheels))
        sys.exit("the wheels differ:\n" + "\n".join(map(str, sorted(differing, key=str))))
    print(f"{wheels[0].name} sha256:{hashes[0]}, built {len(wheels)} times")


def check_whole(names: list[str], source: Path) -> None:
    """End the program when the unpacked sdist is not the repository."""
    unpacked = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    unpacked = {name for name in unpacked if not name.startswith(GENERATED)}
    if unpacked != set(names):
        missing, foreign = sorted(set(names) - unpacked), sorted(unpacked - set(names))
        sys.exit(f"the sdist is not the repository; correct MANIFEST.in: missing {missing}, not in git {foreign}")
    changed = [name for name in names if (source / name).read_bytes() != (ROOT / name).read_bytes()]
    if changed:
        sys.exit(f"the sdist's files differ from the repository's: {changed}")
    print(f"sdist holds all {len(names)} files of the repository")


def main(target: Path) -> None:
    """Build and check everything in a scratch folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        open_copy = copy_tree(names, scratch / "open", 0o000)
        private_copy = copy_tree(names, scratch / "elsewhere" / "private", 0o077)
        sdist = build("sdist", open_copy, target, 0o022)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch / "unpacked", filter="data")
        (unpacked,) = (scratch / "unpacked").iterdir()
        check_whole(names, unpacked)
        check_same_bytes(
            [
                build("wheel", open_copy, target, 0o000),
                build("wheel", private_copy, scratch / "second", 0o077),
                build("wheel", unpacked, scratch / "third", 0o022),
            ]
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
