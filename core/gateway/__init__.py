"""The gateway process: everything around the pure engine."""
