"""Snapshots: what a platform lists is compared with the books; orders, executions, positions, contradictions."""
