"""Signals that have left the engine's state: their rows, their recall by a later message, answers about them."""
