"""How cost grows with what has happened: journal, checkpoints, replay, questions, clock ticks, snapshots."""
