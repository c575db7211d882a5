"""Signals that have left the engine's state: their rows, their recall when something is said of them, their answers."""
