"""Adapter of a platform that is reached through a bridge: connection, session, orders and ticks of one protocol."""

from .adapter import BridgeAdapter as BridgeAdapter
