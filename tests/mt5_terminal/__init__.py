"""A stand-in of the MetaTrader 5 terminal, its broker and its Python module; see README.md."""
