"""Days of the gateway in virtual time: its own class, journal and market data; paper exchanges as platforms."""
