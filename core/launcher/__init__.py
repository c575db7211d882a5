"""The launcher: starts, pins, watches and restarts the processes; carries no data and no state that matters."""
