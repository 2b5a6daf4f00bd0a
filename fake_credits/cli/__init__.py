"""The command line."""

from fake_credits.cli.main import main as main
