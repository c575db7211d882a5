"""MetaTrader 5, global and B3: two adapters over the bridge beside the terminal."""

from .adapter import Mt5BrazilAdapter as Mt5BrazilAdapter
from .adapter import Mt5GlobalAdapter as Mt5GlobalAdapter
