"""Own the command line; know nothing of how the server does what it is told."""

from fake_credits.cli.commands import main as main
