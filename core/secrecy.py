"""Which keys hold secrets, by their name: their values appear in no message and no log."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "(hidden)"

_SECRET: Final = re.compile(r"token|password|passwd|secret|credential|private_key|api_key", re.IGNORECASE)


def is_secret(key: str) -> bool:
    """Whether a setting or log field of this name is kept out of texts that people or files may show around."""
    return _SECRET.search(key) is not None
