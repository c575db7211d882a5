"""Limits: every check has a code, a measured value, a limit and a stage. Pure functions of plain values."""
