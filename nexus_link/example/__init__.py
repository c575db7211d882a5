"""The example NEXUS in parts: features, a trend rule, a demo signal. To copy and replace."""
