"""The command line `nexus-gateway`: one file a group of commands, their shared options, and what they print."""
