"""The command line, as ``python -m fake_credits``."""

from fake_credits.cli import main

main()
