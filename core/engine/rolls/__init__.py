"""Contract rolls: the decision as an event, and positions that are carried over into the new contract."""
