"""The two adapters for MetaTrader 5 as they are, for a market of the test's own."""

from __future__ import annotations

from nexus_gateway.adapters.mt5.adapter import Mt5BrazilAdapter, Mt5GlobalAdapter


class GlobalAdapter(Mt5GlobalAdapter):
    """A stand-in's market has no hours, and no names but those of the settings: the tests run on any day."""

    OWN_MARKET = True


class BrazilAdapter(Mt5BrazilAdapter):
    """As `GlobalAdapter`."""

    OWN_MARKET = True
