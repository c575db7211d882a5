"""Recordings as a platform. Entry: `nexus_gateway.adapters.replay:ReplayAdapter`."""

from .adapter import ReplayAdapter as ReplayAdapter
