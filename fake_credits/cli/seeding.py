"""Own `seed`: from flags to a world in a file or on a server, and what is told of it; know not how it is made."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import click

from fake_credits.cli.options import SeedOptions
from fake_credits.cli.progress import Form, Progress, State
from fake_credits.cli.start import contract_of, world
from fake_credits.client.checks import BaseUrl
from fake_credits.client.network import is_loopback
from fake_credits.client.server import AsyncServerClient
from fake_credits.clock import monotonic_s
from fake_credits.contract import Contract
from fake_credits.drivers.live import new_event_loop
from fake_credits.seeding.errors import TargetError, WorldError
from fake_credits.seeding.files import save_world
from fake_credits.seeding.over_http import Found, Seeder, Site, Totals, totals_of
from fake_credits.seeding.world import World

__all__ = ["seed"]


def seed(options: SeedOptions) -> int:
    """Do what the flags say, and return the exit code."""
    _check(options)
    contract = contract_of(options.contract)
    telling = _Telling(options)
    try:
        job = _Job(options, contract, world(options.profile, options.seed, "--profile"), telling)
        job.run()
    except KeyboardInterrupt:
        if options.url:
            telling.interrupted()
        raise
    except (WorldError, TargetError) as error:
        telling.error(str(error))
        raise click.ClickException(str(error)) from None
    return 0


def _check(options: SeedOptions) -> None:
    if options.out is not None and options.url:
        raise click.UsageError("--out and --url exclude each other: one command writes to one place")
    if options.out is None and not options.url and not options.dry_run:
        raise click.UsageError("say where the data go: --out FILE or --url URL, or --dry-run to see what they are")
    if options.json and options.quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    if not options.url:
        return
    if not options.api_key:
        raise click.UsageError("--api-key is missing: --url needs the server's")
    if not (options.yes or options.dry_run or is_loopback(BaseUrl.parse(options.url).host)):
        raise click.UsageError(f"--url {options.url} is beyond loopback: have a look with --dry-run, then add --yes")


class _Telling:
    """Tell of what is done: in words on stderr, or in JSON on stdout."""

    def __init__(self, options: SeedOptions) -> None:
        self._json = options.json
        self._quiet = options.quiet
        self._form: Form = "lines"
        if options.json or options.quiet:
            self._form = "json" if options.json else "none"
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI"):
            self._form = "bar"

    def progress(self, doing: str, unit: str, total: int) -> Progress:
        return Progress(self._form, sys.stdout if self._json else sys.stderr, State(doing, unit, total))

    def say(self, kind: str, words: dict[str, Any], text: str) -> None:
        if self._json:
            click.echo(json.dumps({kind: words}, ensure_ascii=False))
        elif not self._quiet:
            click.echo(text, err=True)

    def interrupted(self) -> None:
        if not self._quiet:
            click.echo("Interrupted: the same command goes on from here", err=True)

    def error(self, message: str) -> None:
        if self._json:
            click.echo(json.dumps({"error": message}, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class _Job:
    """Be one run: the summary first, then the writing."""

    options: SeedOptions
    contract: Contract
    world: World
    telling: _Telling

    def run(self) -> None:
        with self.telling.progress("planning", "transactions", self.world.size) as progress:
            totals = totals_of(self.world, self.contract, self.options.application_id, progress)
        if self.options.url:
            with asyncio.Runner(loop_factory=new_event_loop) as loop:
                loop.run(self._over_http(totals))
            return
        self._summarize(totals, None)
        if self.options.out is not None and not self.options.dry_run:
            begun_s = monotonic_s()
            with self.telling.progress("writing", "transactions", totals.transactions) as progress:
                save_world(self.world, self.options.out, progress)
            self._conclude(totals.users, totals.transactions, begun_s)

    async def _over_http(self, totals: Totals) -> None:
        options = self.options
        async with AsyncServerClient(options.url, options.api_key, contract=self.contract) as client:
            site = Site(client, options.application_id, self.contract)
            seeder = Seeder(self.world, site, concurrency=options.concurrency)
            with self.telling.progress("looking", "users", totals.users) as progress:
                found = await seeder.look(progress)
            self._summarize(totals, found)
            if not options.dry_run:
                await self._write(seeder, totals, found)

    async def _write(self, seeder: Seeder, totals: Totals, found: Found) -> None:
        begun_s = monotonic_s()
        users, transactions = totals.users - found.users, totals.transactions - found.transactions
        if users:
            with self.telling.progress("creating", "users", users) as progress:
                await seeder.create(progress)
        if transactions:
            with self.telling.progress("writing", "transactions", transactions) as progress:
                await seeder.fill(progress)
        self._conclude(users, transactions, begun_s)

    def _summarize(self, totals: Totals, found: Found | None) -> None:
        options, world = self.options, self.world
        words: dict[str, Any] = {"world": world.name, "seed": world.seed, **totals._asdict()}
        lines = [
            f"World {world.name!r}, seed {world.seed}: {totals.users:,} users, {totals.transactions:,} transactions",
            f"  {totals.granted:,} credits granted, {totals.consumed:,} consumed, {totals.refunded:,} refunded",
        ]
        if found is not None:
            words |= {"url": options.url, "application": options.application_id, "found": found._asdict()}
            lines.append(f"To {options.url}, application {options.application_id!r}, which has of these")
            lines.append(f"  {found.users:,} users and {found.transactions:,} transactions")
        elif options.out is not None:
            words["file"] = str(options.out)
            lines.append(f"To the file {options.out}")
        if options.dry_run:
            lines.append("A dry run: nothing is written")
        self.telling.say("summary", {**words, "dry_run": options.dry_run}, "\n".join(lines))

    def _conclude(self, users: int, transactions: int, begun_s: float) -> None:
        took_s = monotonic_s() - begun_s
        words = {"users": users, "transactions": transactions, "seconds": round(took_s, 3)}
        text = f"Written: {users:,} users and {transactions:,} transactions, in {took_s:.1f} s"
        self.telling.say("done", words, text)
