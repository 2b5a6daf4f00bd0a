"""The command-line entry point: ``fake-credits`` and ``python -m fake_credits``.

Importing this module installs the Ctrl-C handler, because the script that pip installs does some work before it calls
`main`.
"""

import gc

from fake_credits.cli.signals import exit_at_interrupt

exit_at_interrupt()


def main() -> None:
    """Run the command-line interface; exit silently on Ctrl-C, even while modules are being imported."""
    gc.disable()  # collection takes a tenth of the import time and finds nothing; long-running commands enable it again
    from fake_credits.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
