"""Orders and executions of all legs: placing, platform reports, reconciliation, exits, protection, money."""
