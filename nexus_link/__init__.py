"""The trading program's side: market data read straight from the rings, signals sent to the gateway."""
