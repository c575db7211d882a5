"""Bridge between one MetaTrader 5 terminal and Nexus Gateway, by bridges/PROTOCOL.md. README.md says how to run it.

One process and one thread for one terminal. Needs MetaTrader5 and numpy, imports nothing of the gateway, runs on
Python 3.9 or newer.

Why one thread: the MetaTrader5 module holds the interpreter lock during a call, so other threads would stand still,
too. Between any two calls the sockets are served, and commands are executed before ticks are read.

Long calls: a call has no time-out, so only time distinguishes a hung terminal from a busy one. Before a call that may
be long (initialize, first history of a symbol, order_send, history for a snapshot) the bridge sends `busy` with the
time limit. Polls of ticks and orders are not announced: when one takes longer than the adapter's `mute_after_ms`, the
adapter marks its quotes stale until the bridge answers again; no ticks are lost. After `until_ns` of the heartbeat
file a supervisor kills the process.
"""
