"""Start of the bridge: as a folder (`python mt5_bridge bridge.json`), as an archive, as a module of the gateway."""

import importlib
import os
import sys

if __name__ == "__main__":
    package = __package__
    if not package:
        # Started as a folder. Its parent stands for it on the path, else its modules would hide those of others.
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        package = "mt5_bridge"
    sys.exit(importlib.import_module(f"{package}.main").main())
