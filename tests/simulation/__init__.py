"""Seeded simulation of engine, risk and journal with N fake platforms: no sockets, no clock, no threads."""
