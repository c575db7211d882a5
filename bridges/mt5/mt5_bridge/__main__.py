"""Start the bridge: `python mt5_bridge bridge.json` runs the folder; the archive runs it as a module."""

import importlib
import os
import sys

if __name__ == "__main__":
    package = __package__
    if not package:
        # The folder itself stands first on the path: its modules would hide others of the same names.
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        package = "mt5_bridge"
    try:
        importlib.import_module("numpy")
    except ImportError as import_error:
        sys.stderr.write(f"mt5_bridge: numpy cannot be imported ({import_error}); run: pip install numpy MetaTrader5\n")
        raise SystemExit(2) from import_error
    sys.exit(importlib.import_module(f"{package}.main").main())
