"""The entry point of the command line: ``fake-credits`` and ``python -m fake_credits``."""

from fake_credits.cli.signals import exit_at_interrupt


def main() -> None:
    """Run the command line; exit silently on Ctrl-C, even while its modules are being imported."""
    exit_at_interrupt()
    from fake_credits.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
