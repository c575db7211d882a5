"""A simulated platform with a seeded market. Entry: `nexus_gateway.adapters.simulator:SimulatorAdapter`."""

from .adapter import SimulatorAdapter as SimulatorAdapter
