"""The entry point of the command line: ``fake-credits`` and ``python -m fake_credits``.

Importing it handles Ctrl-C, because the script that pip installs does some work of its own before it calls `main`.
"""

import gc

from fake_credits.cli.signals import exit_at_interrupt

exit_at_interrupt()


def main() -> None:
    """Run the command line; exit silently on Ctrl-C, even while its modules are being imported."""
    gc.disable()  # during the imports it takes a tenth of the time and finds nothing; long-running commands enable it
    from fake_credits.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
