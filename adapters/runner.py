"""Main function of an adapter process; the launcher starts one for each platform."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..core.config import load_entry
from ..core.errors import ConfigError, DataFormatError
from ..core.instruments.catalog import Catalog, load_catalog
from ..core.instruments.sessions import load_sessions
from ..core.instruments.symbols import SHIPPED_MAPPING
from ..core.messages import Hello
from ..core.process import EXIT_CLEAN, EXIT_CONFIG, ProcessContext
from ..core.transport import ADAPTER_LINK, LinkClient, LinkTiming, adapter_key, client_endpoint
from ..shm.tick import Platform
from .base import Adapter
from .feed import COUNTERS, TickFeed
from .order_settings import SharedSettings, split_settings
from .orders.channel import ORDER_COUNTERS, OrderChannel
from .paper.adapter import PAPER_COUNTERS, PaperAdapter
from .session import AdapterSession
from .symbol_watch import ContractWatch, MarketHours, PlatformNames

_TURN_S: Final = 0.1


def main(context: ProcessContext) -> int:
    """Run the adapter that the configuration names for this process, until the process is asked to stop."""
    platform = context.config.platforms[context.name]
    adapter_class = load_entry(platform.adapter, f"platform_configs.yaml: {context.name}.adapter")
    if not (isinstance(adapter_class, type) and issubclass(adapter_class, Adapter)):
        raise ConfigError(
            f"platform_configs.yaml: {context.name}.adapter was {platform.adapter!r}, which is no Adapter; "
            "name a class derived from nexus_gateway.adapters.base.Adapter"
        )
    shared, own_settings = split_settings(platform.settings, f"platform {context.name!r}: settings")
    counters = context.open_counters((*COUNTERS, *ORDER_COUNTERS, *PAPER_COUNTERS, *adapter_class.OWN_COUNTERS))
    feed = TickFeed(
        context.run_folder,
        context.name,
        Platform.parse(context.name),
        counters,
        capacity=context.config.ring_capacity,
        board_rows=context.config.board_rows,
    )
    try:
        adapter: Adapter = adapter_class(feed, own_settings)
        contracts = ContractWatch(context.run_folder, context.name, platform.symbols)
        own = context.config.orders
        adapter.catalog = catalog = load_catalog(own.instruments_path)
        adapter.sessions = sessions = load_sessions(own.hours_path)
        names = hours = None
        if not adapter_class.OWN_MARKET:
            adapter.names = names = _read_names(context, catalog)
            hours = MarketHours(platform.symbols, catalog, sessions)
        orders_mode = shared.orders or adapter_class.DEFAULT_ORDERS
        if not context.config.orders.enabled or orders_mode == "external":
            orders_mode = "none"
        if orders_mode == "paper":
            adapter = PaperAdapter(adapter, shared.paper, _paper_path(context))
        futures = {each.symbol for each in catalog.futures()}
        roots = set(context.config.rolling_roots(futures))

        def contracts_chosen() -> bool:
            # On a first start the gateway chooses the front contracts after the adapter has connected. A link opened
            # before that would be restarted with the contract, and an order in flight at that moment would be lost.
            return all(symbol.contract for symbol in contracts.symbols if symbol.name in roots)

        orders = None if orders_mode == "none" else _open_orders(context, adapter, shared, contracts_chosen)
        session = AdapterSession(
            adapter,
            contracts.symbols,
            shared.session.with_default_silence(hours_known=hours is not None),
            context.log,
            orders=orders,
            contracts=contracts,
            names=names,
            market_open=(lambda: True) if hours is None else hours.is_open,
        )
        try:
            while not context.stopping:
                session.step(_TURN_S)
                feed.beat()
                context.beat()
        finally:
            session.close()
            if isinstance(adapter, PaperAdapter):
                adapter.close_account()
    except DataFormatError as error:
        # No restart: the file would be broken again.
        context.log.error("recording is broken", reason=str(error))
        return EXIT_CONFIG
    finally:
        feed.close()
    return EXIT_CLEAN


def _open_orders(
    context: ProcessContext, adapter: Adapter, shared: SharedSettings, may_link: Callable[[], bool]
) -> OrderChannel:
    if adapter.capabilities is None:
        raise ConfigError(
            f"platform {context.name!r}: orders was platform, for which {type(adapter).__name__} is not made; "
            "write paper or none"
        )
    accounts = shared.accounts if not isinstance(adapter, PaperAdapter) else ()
    settings = context.config.orders
    timing = LinkTiming(heartbeat_ms=settings.heartbeat_ms, mute_after_ms=settings.mute_after_ms)

    def make_link(hello: Hello) -> LinkClient:
        return LinkClient(
            client_endpoint(context.run_folder, ADAPTER_LINK, settings.host, settings.adapter_port),
            hello,
            context.config.keys_path / adapter_key(context.name),
            timing,
            queue_messages=settings.queue_messages,
        )

    return OrderChannel(
        adapter,
        make_link,
        accounts,
        context.run_folder,
        context.counters,
        context.log,
        limits=shared.limits,
        may_link=may_link,
    )


def _paper_path(context: ProcessContext) -> Path:
    journal = context.config.journal_path
    return journal.with_name(f"{journal.stem}.{context.name}.paper")


def _read_names(context: ProcessContext, catalog: Catalog) -> PlatformNames:
    chosen = context.config.symbols_file
    path = SHIPPED_MAPPING if chosen is None else Path(chosen)
    return PlatformNames(path, context.name, catalog, context.log)
