"""The adapter for the reference bridge: what it takes to make one for a platform of one's own."""

from __future__ import annotations

from nexus_gateway.adapters.bridge.adapter import BridgeAdapter


class ReferenceAdapter(BridgeAdapter):
    """As it is for every bridged platform; this one's market has no hours."""

    OWN_MARKET = True
