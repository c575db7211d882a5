"""The process of one adapter: made by the launcher, one a platform."""

from __future__ import annotations

from typing import Final

from ..core.errors import ConfigError, DataFormatError
from ..core.process import EXIT_CLEAN, EXIT_CONFIG, ProcessContext, load_entry
from ..shm.symbols import Symbol, SymbolDirectory
from ..shm.tick import Platform
from .base import Adapter
from .feed import COUNTERS, TickFeed
from .session import AdapterSession, SessionPolicy

_TURN_S: Final = 0.1


def main(context: ProcessContext) -> int:
    """Run the adapter that the configuration names for this process until it is to stop."""
    platform = context.config.platforms[context.name]
    adapter_class = load_entry(platform.adapter, f"platform_configs.yaml: {context.name}.adapter")
    if not (isinstance(adapter_class, type) and issubclass(adapter_class, Adapter)):
        raise ConfigError(
            f"platform_configs.yaml: {context.name}.adapter was {platform.adapter!r}, which is no Adapter; "
            "name a class derived from nexus_gateway.adapters.base.Adapter"
        )
    counters = context.open_counters((*COUNTERS, *adapter_class.OWN_COUNTERS))
    feed = TickFeed(
        context.run_folder,
        context.name,
        Platform.parse(context.name),
        counters,
        capacity=context.config.ring_capacity,
        board_rows=context.config.board_rows,
    )
    try:
        adapter = adapter_class(feed, platform.settings)
        symbols = _find_symbols(context)
        session = AdapterSession(adapter, symbols, SessionPolicy(), context.log)
        try:
            while not context.stopping:
                session.step(_TURN_S)
                feed.beat()
                context.beat()
        finally:
            session.close()
    except DataFormatError as error:
        # The file will be as broken after a restart.
        context.log.error("recording is broken", reason=str(error))
        return EXIT_CONFIG
    finally:
        feed.close()
    return EXIT_CLEAN


def _find_symbols(context: ProcessContext) -> list[Symbol]:
    """Directory entries of the platform's symbols; the launcher has added them before it started anybody."""
    directory = SymbolDirectory.attach(context.run_folder)
    entries = {symbol.name: symbol for symbol in directory.entries()}
    names = context.config.platforms[context.name].symbols
    missing = [name for name in names if name not in entries]
    if missing:
        raise ConfigError(f"platform {context.name!r}: no symbol id for {', '.join(missing)}; add them to `symbols`")
    return [entries[name] for name in names]
