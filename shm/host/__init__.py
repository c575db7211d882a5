"""Everything that differs between Linux and Windows, in one place: folders, files, locks, processes, timers."""

from __future__ import annotations

import sys
from typing import Final

from .environment import child_environment
from .files import (
    NotRegularError,
    copy_private,
    find_lock_holders,
    lock_within,
    make_private_file,
    open_appending,
    open_private,
    open_regular,
    read_regular,
    remove_open,
    replace_private,
    reserve,
    try_lock,
    unlock,
)
from .folders import default_run_folder, find_folder_fault, local_data_folder, make_private_folder
from .processes import (
    ask_to_stop,
    available_cores,
    child_options,
    is_alive,
    kill_tree,
    on_stop_request,
    own_interpreter,
    pin_process,
    release_code_pages,
    sharpen_timers,
    started_ms,
    steady_ns,
)
from .resources import descriptor_reserve, guard_process, is_want_of_resources, raise_descriptor_limit
from .sockets import MAX_WAITED_SOCKETS, bind_exclusively, make_file_socket

IS_WINDOWS: Final = sys.platform == "win32"

__all__ = [
    "IS_WINDOWS",
    "MAX_WAITED_SOCKETS",
    "NotRegularError",
    "ask_to_stop",
    "available_cores",
    "bind_exclusively",
    "child_environment",
    "child_options",
    "copy_private",
    "default_run_folder",
    "descriptor_reserve",
    "find_folder_fault",
    "find_lock_holders",
    "guard_process",
    "is_alive",
    "is_want_of_resources",
    "kill_tree",
    "local_data_folder",
    "lock_within",
    "make_file_socket",
    "make_private_file",
    "make_private_folder",
    "on_stop_request",
    "open_appending",
    "open_private",
    "open_regular",
    "own_interpreter",
    "pin_process",
    "raise_descriptor_limit",
    "read_regular",
    "release_code_pages",
    "remove_open",
    "replace_private",
    "reserve",
    "sharpen_timers",
    "started_ms",
    "steady_ns",
    "try_lock",
    "unlock",
]
