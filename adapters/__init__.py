"""Adapters: each connects one trading platform, in a process of its own, to a tick ring."""
