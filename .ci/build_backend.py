"""setuptools, with wheels that are the same bytes wherever they are built.

setuptools takes the files' modes from the umask and the checkout, and their times from the clock. Here each member has
one fixed mode and one fixed time, so anyone can build a release again and compare its SHA-256.
"""

import zipfile
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
MODE = 0o100644  # a plain file, rw-r--r--
UNIX = 3  # the system that MODE is for; zipfile would name the one that builds


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel and return its name."""
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    wheel = Path(wheel_directory, name)
    as_built = wheel.with_suffix(".as_built")
    wheel.rename(as_built)
    with zipfile.ZipFile(as_built) as source, zipfile.ZipFile(wheel, "w") as target:
        for built in source.infolist():  # setuptools has sorted them, with dist-info last
            member = zipfile.ZipInfo(built.filename, TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = UNIX
            member.external_attr = MODE << 16
            target.writestr(member, source.read(built))
    as_built.unlink()
    return name
