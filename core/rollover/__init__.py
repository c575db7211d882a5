"""When a root's next contract takes over on all platforms: decisions, as pure functions of what the caller read."""
