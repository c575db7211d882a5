"""The gateway's own processes: configuration, launcher, orders, risk, instruments, command line."""
