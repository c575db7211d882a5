"""`nexus-gateway certify`: numbered acceptance checks of a bridged platform on its demo account.

The checks use the product's own adapter and its session with the bridge. Orders and positions of the checks are
cancelled and closed at the end.
"""

from __future__ import annotations

from .certification import certify

__all__ = ["certify"]
