"""A reference bridge for bridges/PROTOCOL.md, and the simulated platform behind it.

`wire.py` and `server.py` use the standard library only and nothing of ours: they are what a bridge for another platform
can be made from. `paper_platform.py` is the platform: the paper exchange.
"""
