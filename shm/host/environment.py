"""The environment of a child process of ours: what it needs, and nothing that its parent happens to have.

A password or key in the environment from which the gateway is started is so not in each of its processes, where any
library, and who may look at the process, could read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
        # The interpreter of the user may need them to start; a terminal under Wine needs a display.
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "__PYVENV_LAUNCHER__"),
        # Windows: without them sockets, profiles and terminals do not work.
        *("APPDATA", "LOCALAPPDATA", "USERPROFILE", "USERNAME", "USERDOMAIN", "HOMEDRIVE", "HOMEPATH", "PUBLIC"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "OS", "NUMBER_OF_PROCESSORS"),
        *("ALLUSERSPROFILE", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMW6432"),
        *("COMMONPROGRAMFILES", "COMMONPROGRAMFILES(X86)", "COMMONPROGRAMW6432"),
    }
)
_PREFIXES: Final = ("LC_", "XDG_", "PYTHON", "NUMBA", "NEXUS", "WINE", "PROCESSOR_", "COVERAGE_")


def child_environment(passed: Iterable[str] = (), added: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for `subprocess.Popen` of a child process. Any process of ours.

    Args:
        passed: names of further variables that this child needs, such as the one with its platform's token; one that
            this process does not have is left out.
        added: variables to set.
    """
    wanted = set(passed)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.upper() in _NAMES or name.upper().startswith(_PREFIXES)
    }
    return kept | dict(added or {})
