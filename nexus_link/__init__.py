"""What lives in NEXUS's own process: market data read straight from the rings."""
