"""The traded instruments: contracts and rolls, platform names, money, sessions.

Everything here is a pure function of its arguments: no clock, no socket, no thread. The caller passes the
time. Any process may import it: nothing heavy is loaded until a holiday calendar is first asked.
"""
