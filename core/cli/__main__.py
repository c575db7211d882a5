"""Lets `python -m nexus_gateway.core.cli` run the command line where no script was installed."""

from .app import main

if __name__ == "__main__":
    main()
