"""Which contract is in front, decided for all platforms at once from live volumes, dates and what is held."""

from __future__ import annotations

from .live_contracts import LiveContracts as LiveContracts
