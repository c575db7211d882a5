"""How cost grows with what has happened: journal, checkpoints, replay, report, clock ticks, snapshots."""
