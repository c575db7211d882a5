"""The recorder: every tick of all rings to files, as a process of its own."""
