"""Be the command line for ``python -m fake_credits``."""

from fake_credits.cli import main

main()
