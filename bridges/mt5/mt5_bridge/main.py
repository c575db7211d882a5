"""Command line, listening port and signals: run the bridge until it is asked to stop."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from .bridge import Bridge
from .config import Config, load_config
from .constants import BIND_PATIENCE_S, EXIT_CLEAN, EXIT_CONFIG, EXIT_PORT, PROGRAM, VERSION
from .errors import ConfigError, TerminalLost, WrongTerminal
from .log import Log


def listen(host: str, port: int, patience_s: float) -> socket.socket:
    """Open the listening socket; retry for `patience_s`, a previous process may still hold the port. Raises OSError."""
    deadline_s = time.monotonic() + patience_s
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        # Windows lets a second program share a port unless the first one asks for it alone.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive is None else exclusive, 1)
        try:
            listener.bind((host, port))
            listener.listen(64)
            listener.setblocking(False)
            return listener
        except OSError:
            listener.close()
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(0.2)


class Stopping:
    """`is_wanted` becomes True on a signal or, with `lifeline`, when standard input ends."""

    def __init__(self, *, lifeline: bool) -> None:
        self.is_wanted = False
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._take)
        if lifeline:
            threading.Thread(target=self._read_to_the_end, daemon=True).start()

    def _take(self, number: int, frame: Any) -> None:
        self.is_wanted = True

    def _read_to_the_end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            # os.read, not sys.stdin: this thread would hold its lock at exit, which aborts the interpreter.
            while os.read(sys.stdin.fileno(), 1 << 12):
                pass
        self.is_wanted = True


def run(config: Config, log: Log, module: Any, *, check: bool, lifeline: bool) -> int:
    """Serve until asked to stop; returns the exit code."""
    stopping = Stopping(lifeline=lifeline)
    try:
        listener = listen(config.host, 0 if check else config.port, 0.0 if check else BIND_PATIENCE_S)
    except OSError as error:
        log.say("error", f"port {config.port} of {config.host} cannot be had: {error}")
        return EXIT_PORT
    bridge = Bridge(module, config, log, listener)
    try:
        if check:
            return _check(bridge, log)
        log.say("info", f"{PROGRAM} {VERSION} serves {config.platform} on {config.host}:{config.port}")
        while not stopping.is_wanted and not bridge.is_hopeless:
            bridge.turn()
    finally:
        bridge.stop()
        module.shutdown()
    return EXIT_CONFIG if bridge.is_hopeless else EXIT_CLEAN


def _check(bridge: Bridge, log: Log) -> int:
    try:
        bridge.connect()
    except (WrongTerminal, TerminalLost, OSError) as error:
        log.say("error", str(error))
        return EXIT_CONFIG if isinstance(error, WrongTerminal) else 1
    sys.stdout.write(json.dumps(bridge.report(), indent=1) + "\n")
    return EXIT_CLEAN


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Bridge between a MetaTrader 5 terminal and an adapter.")
    parser.add_argument("config", help="the configuration, JSON; see README.md")
    parser.add_argument("--check", action="store_true", help="connect, print what was found, end")
    parser.add_argument("--stdin-lifeline", action="store_true", help="end when the standard input ends")
    parser.add_argument("--version", action="version", version=VERSION)
    chosen = parser.parse_args(arguments)
    try:
        config = load_config(chosen.config)
        log = Log(config.log_file, config.log_level)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return EXIT_CONFIG
    try:
        module = importlib.import_module("MetaTrader5")
    except ImportError as error:
        log.say("error", f"MetaTrader5 cannot be imported ({error}); run: pip install MetaTrader5")
        return EXIT_CONFIG
    return run(config, log, module, check=chosen.check, lifeline=chosen.stdin_lifeline)
