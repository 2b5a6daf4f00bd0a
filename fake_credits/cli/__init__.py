"""Own the command line; know nothing of how the server does what it is told."""

from fake_credits.cli.main import main as main
