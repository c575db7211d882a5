"""Signals: arrival, fan-out to legs, changes by NEXUS, reports to NEXUS."""
