"""The recorder: a process that writes every tick of all rings to files."""
