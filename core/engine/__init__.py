"""Orders as a pure state machine: events in, effects out. No socket, no clock, no randomness (docs/orders.md)."""
