"""Objects that a configuration or a launch file names by "module:function"."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from ..errors import ConfigError


def load_entry(entry: str, where: str) -> Any:
    """The object that "module:name" names.

    Args:
        where: opens the message, such as "platform_configs.yaml: nt8.adapter".

    Raises:
        ConfigError: no such module, or nothing of that name in it.
    """
    module_name, _, name = entry.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        cure = "correct the name or install it"
        raise ConfigError(f"{where} was {entry!r}: no module named {error.name!r}; {cure}") from error
    except AttributeError as error:
        if not hasattr(sys.modules.get(module_name), name):
            raise ConfigError(f"{where} was {entry!r}: {module_name} has no {name!r}; correct the name") from error
        raise
