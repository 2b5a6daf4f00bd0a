"""The `seed` command: writes a world to a file or a server, and shows a summary and progress."""

import asyncio
import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click
import msgspec

from fake_credits.arguments import BaseUrl
from fake_credits.cli.bootstrap import find_world
from fake_credits.cli.flags import SeedFlags
from fake_credits.cli.output import Progress
from fake_credits.client.http import is_loopback
from fake_credits.client.server import AsyncServerClient
from fake_credits.clock import monotonic_s
from fake_credits.text import pluralize
from fake_credits.transports.live import new_event_loop
from fake_credits.worlds.seeding import ExistingData, ProgressCallback, Seeder, Target, WorldTotals, compute_totals
from fake_credits.worlds.world import TargetError, World, WorldError, save_world


def seed(options: SeedFlags) -> None:
    """Write the world that the flags describe."""
    _check_flags(options)
    try:
        _SeedJob(options, find_world(options.profile, options.seed, "--profile")).run()
    except KeyboardInterrupt:
        if options.url and not options.quiet:
            click.echo("Interrupted; rerun the same command to resume", err=True)
        raise
    except (WorldError, TargetError) as error:
        if options.json:
            click.echo(json.dumps({"error": str(error)}, ensure_ascii=False))
        raise click.ClickException(str(error)) from None


def _check_flags(options: SeedFlags) -> None:
    if options.out is not None and options.url:
        raise click.UsageError("--out and --url are mutually exclusive")
    if options.out is None and not options.url and not options.dry_run:
        raise click.UsageError(
            "missing destination: pass --out FILE or --url URL; to see a summary first, use --dry-run"
        )
    if options.json and options.quiet:
        raise click.UsageError("--json and --quiet are mutually exclusive")
    if not options.url:
        return
    if not options.api_key:
        raise click.UsageError("--url requires --api-key, the server's API key")
    if not (options.yes or options.dry_run or is_loopback(BaseUrl.parse(options.url).host)):
        raise click.UsageError(
            f"--url {options.url} is not a loopback URL: preview with --dry-run first, then add --yes"
        )


class _SeedJob(msgspec.Struct, frozen=True):
    """One run of `seed`, which prints a summary and then writes the world; text goes to stderr, JSON to stdout."""

    options: SeedFlags
    world: World

    def run(self) -> None:
        with self._progress("planning", "transactions", self.world.transaction_count) as progress:
            totals = compute_totals(self.world, self.options.contract, self.options.application_id, progress)
        if self.options.url:
            with asyncio.Runner(loop_factory=new_event_loop) as loop:
                loop.run(self._seed_server(totals))
            return
        self._print_summary(totals, None)
        if self.options.out is not None and not self.options.dry_run:
            started_s = monotonic_s()
            with self._progress("writing", "transactions", totals.transactions) as progress:
                save_world(self.world, self.options.out, progress)
            self._print_result(totals.users, totals.transactions, started_s)

    async def _seed_server(self, totals: WorldTotals) -> None:
        options = self.options
        async with AsyncServerClient(options.url, options.api_key, contract=self.options.contract) as client:
            target = Target(client, options.application_id, self.options.contract)
            seeder = Seeder(self.world, target, concurrency=options.concurrency)
            with self._progress("checking", "users", totals.users) as progress:
                existing = await seeder.scan(progress)
            self._print_summary(totals, existing)
            if not options.dry_run:
                await self._write_missing(seeder, totals, existing)

    async def _write_missing(self, seeder: Seeder, totals: WorldTotals, existing: ExistingData) -> None:
        started_s = monotonic_s()
        users, transactions = totals.users - existing.users, totals.transactions - existing.transactions
        if users:
            with self._progress("creating", "users", users) as progress:
                await seeder.create(progress)
        if transactions:
            with self._progress("writing", "transactions", transactions) as progress:
                await seeder.write_transactions(progress)
        self._print_result(users, transactions, started_s)

    def _print_summary(self, totals: WorldTotals, existing: ExistingData | None) -> None:
        options, world = self.options, self.world
        data: dict[str, Any] = {"world": world.name, "seed": world.seed, **totals._asdict()}
        lines = [
            f"World {world.name!r}, seed {world.seed}: "
            f"{pluralize(totals.users, 'user')}, {pluralize(totals.transactions, 'transaction')}",
            f"  {pluralize(totals.granted, 'credit')} granted, "
            f"{totals.consumed:,} consumed, {totals.refunded:,} refunded",
        ]
        if existing is not None:
            data |= {"url": options.url, "application": options.application_id, "found": existing._asdict()}
            lines.append(f"Destination: {options.url}, application {options.application_id!r}")
            lines.append(
                f"  {existing.users:,} of these users and {existing.transactions:,} of these transactions already exist"
            )
        elif options.out is not None:
            data["file"] = str(options.out)
            lines.append(f"Destination: {options.out}")
        if options.dry_run:
            lines.append("Dry run: nothing was written")
        self._print("summary", {**data, "dry_run": options.dry_run}, "\n".join(lines))

    def _print_result(self, users: int, transactions: int, started_s: float) -> None:
        duration_s = monotonic_s() - started_s
        data = {"users": users, "transactions": transactions, "seconds": round(duration_s, 3)}
        text = f"Wrote {pluralize(users, 'user')} and {pluralize(transactions, 'transaction')} in {duration_s:.1f} s"
        self._print("done", data, text)

    def _progress(self, label: str, unit: str, total: int) -> AbstractContextManager[ProgressCallback]:
        if self.options.quiet:
            return nullcontext(int)
        if self.options.json:
            return Progress("json", sys.stdout, label, unit, total)
        is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
        return Progress("bar" if is_terminal else "lines", sys.stderr, label, unit, total)

    def _print(self, kind: str, data: dict[str, Any], text: str) -> None:
        if self.options.json:
            click.echo(json.dumps({kind: data}, ensure_ascii=False))
        elif not self.options.quiet:
            click.echo(text, err=True)
