"""MetaTrader 5, global and B3: two adapters over the bridge beside the terminal."""
