"""The launcher: starts, pins, watches and restarts the processes. No market data and no orders pass through it."""
