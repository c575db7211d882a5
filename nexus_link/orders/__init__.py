"""Orders on the NEXUS side: link, outbox, signals awaiting their report, futures and callbacks."""
