"""`nexus-gateway certify`: numbered acceptance checks of a bridged platform, against its demo account.

The checks run through the product's own adapter and its session with the bridge; what they place they take away again.
"""

from __future__ import annotations

from .certification import certify

__all__ = ["certify"]
