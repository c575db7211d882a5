"""The bridge between one MetaTrader 5 terminal and Nexus Gateway, by bridges/PROTOCOL.md. README.md says how to run it.

One file, one thread, one terminal. Needs MetaTrader5 and numpy, imports nothing of the gateway; Python 3.9 or newer.

Why one thread: the module never lets go of the interpreter while a call is under way, so a second thread would stand
still with the first. Between any two calls into the terminal the sockets are served, and commands come before ticks.

How a hung terminal is told from a busy one: by time alone, there is no other sign. Before a call that may be long
(initialize, first history of a symbol, order_send, history for a snapshot) the adapter is told `busy`, with the time
that it may take; a look at ticks or orders is not announced, and when one of them takes longer than the adapter's
`mute_after_ms`, the adapter is right to mark its quotes stale. It comes back, and its ticks go on where they ended.
Beyond `until_ns` of the pulse file a supervisor ends the process.

Sections: constants; frames and messages; configuration; clock; decimals; terminal; symbols; ticks; order identity;
what the platform shows; commands; monitor and snapshots; connection; the bridge; main.
"""
