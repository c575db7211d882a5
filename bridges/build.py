"""Build each Python bridge as one file that Python runs: `python bridges/build.py [FOLDER]`; `make bridges`.

The same sources give the same bytes on every machine: sorted names, one fixed time, nothing compressed (compressed
bytes differ between versions of zlib), line ends of Unix. So the SHA-256 that is printed can be compared.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import zipfile
from pathlib import Path

BRIDGES = Path(__file__).resolve().parent
PACKAGES = (BRIDGES / "mt5" / "mt5_bridge",)
MADE_AT = (1980, 1, 1, 0, 0, 0)
MODE = 0o644 << 16
UNIX = 3
START = '''"""Start the bridge in this archive."""

import runpy

runpy.run_module("{name}", run_name="__main__", alter_sys=True)
'''


def read_version(package: Path) -> str:
    """VERSION of the package's constants, which cannot be imported here: numpy may be missing."""
    for node in ast.parse((package / "constants.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "VERSION":
            return str(ast.literal_eval(node.value))
    raise ValueError(f"{package} has no VERSION in its constants.py")


def make_archive(package: Path) -> bytes:
    """The zip archive: `__main__.py`, which starts the package, and the package."""
    files = {f"{package.name}/{path.name}": path.read_text(encoding="utf-8") for path in package.glob("*.py")}
    files["__main__.py"] = START.format(name=package.name)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as target:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(name, MADE_AT)
            entry.create_system = UNIX
            entry.external_attr = MODE
            target.writestr(entry, text.encode("utf-8"))
    return archive.getvalue()


def main() -> int:
    """Write the archives, print the SHA-256, size and path of each; the exit code."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dist")
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        path = folder / f"{package.name}-{read_version(package)}.pyz"
        content = make_archive(package)
        path.write_bytes(content)
        sys.stdout.write(f"{hashlib.sha256(content).hexdigest()}  {len(content)}  {path.as_posix()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
