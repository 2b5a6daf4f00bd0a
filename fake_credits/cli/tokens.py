"""Own the signing keys in a file, and the tokens that a process of its own mints with them; know no server."""

from pathlib import Path

import click

from fake_credits.auth.issuers import Minter
from fake_credits.auth.keys import SigningKeys, new_private_pem
from fake_credits.auth.negative import bad_token
from fake_credits.auth.providers import PRESETS
from fake_credits.cli import files
from fake_credits.cli.options import TokenOptions
from fake_credits.clock import wall_ms

__all__ = ["mint", "signing_keys"]


def signing_keys(path: Path | None) -> SigningKeys:
    """Return the keys in a file, which is made where it is absent; without one, keys that die with this process."""
    if path is None:
        return SigningKeys()
    if not path.exists():
        files.create(path, new_private_pem(), "--key-file")
    try:
        return SigningKeys(files.read(path, "--key-file"))
    except ValueError as error:
        raise click.UsageError(f"--key-file {str(path)!r} holds no signing keys: {error}") from error


def mint(options: TokenOptions, user_id: str) -> str:
    """Return a user's token that every server with the same keys and preset accepts; or one that it refuses."""
    if options.key_file is None:
        raise click.UsageError(
            "--key-file is missing: signing keys die with their server, so give `serve` and `token` the same --key-file"
            " FILE (it is made where it is absent); `run` has CREDITS_USER_TOKEN"
        )
    if options.bad and options.expires_in is not None:
        raise click.UsageError(f"--expires-in {options.expires_in} has no effect on a token that is --bad")
    if not options.key_file.exists():
        note = (
            f"Note: --key-file {str(options.key_file)!r} is made now: only a server started with it knows this token."
        )
        click.echo(note, err=True)
    minter = Minter(signing_keys(options.key_file), PRESETS[options.jwt])
    if options.bad:
        return bad_token(options.bad, minter, user_id, now_ms=wall_ms())
    return minter.mint(user_id, now_ms=wall_ms(), expires_in_s=options.expires_in)
