"""Contract rolls: the decision as an event, and the roll-over of positions into the new contract."""
