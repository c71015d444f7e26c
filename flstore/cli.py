"""``flstore``: look at a root, verify it and ask it, from a shell.

Everything here reads. It works while a store is open on the root (then its cache functions answer) and without one.

The exit status is 0 when it worked; 1 when it did not, and one line on the error stream says why; 2 when the command
itself was wrong; 3 when ``verify`` found damage; 130 when it was interrupted.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import click
import typer

from flstore.arguments import OPTIONS, pairs, rounds, storage_options
from flstore.errors import (
    FLStoreError,
    InvalidIdError,
    InvalidParameterError,
    UnknownNameError,
    UpdateNotFoundError,
)

FAILED, WRONG, DAMAGED, INTERRUPTED = 1, 2, 3, 130
"""Values of the exit status, beside 0."""

app = typer.Typer(
    name="flstore", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Look at what a store keeps, verify it and ask it. All commands only read.",
)  # fmt: skip

# This version of typer loses the help of arguments, so it stands below the options.
WHERE = "ROOT is a folder, or a URL that fsspec knows, such as s3://bucket/prefix."
ASKED = "WORKLOAD is a name, such as clustering or malicious_filtering."

Root = Annotated[str, typer.Argument(metavar="ROOT", hidden=True)]
Job = Annotated[str | None, typer.Option("--job", help="The FL job; needed when the root has several.")]
Storage = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="NAME=VALUE",
        help=f"A storage option for fsspec; may be repeated. Put secrets into {OPTIONS} instead, as a JSON object: "
        "other users of the machine can see command lines.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs, not text for people.")]


@dataclass
class Call:
    """One command line: where it looks, and what must not be shown of it."""

    hidden: list[tuple[str, str]] = field(default_factory=list)
    redact: Callable[[str], str] = str

    def at(self, root: str, option: Sequence[str] | None) -> dict[str, Any]:
        """The storage options; from now on neither they nor the secrets in the root are shown."""
        from flstore.display.words import location
        from flstore.persistence.redaction import Redaction

        options = storage_options(option or [])
        self.hidden, self.redact = [(root, location(root))], Redaction(options)
        if "://" in root and "?" in root:
            self.hidden.append((root[root.index("?") :], ""))
        return options

    def say(self, text: object) -> None:
        """One line on the error stream, without secrets."""
        from flstore.display.words import printable

        shown = str(text)
        for secret, instead in self.hidden:
            shown = shown.replace(secret, instead)
        print("flstore:", printable(" ".join(self.redact(shown).split())), file=sys.stderr)


@app.callback(invoke_without_command=True)
def top(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Say it.")] = False) -> None:
    """Look at what a store keeps, verify it and ask it. All commands only read."""
    if version:
        from flstore import __version__

        print(f"flstore {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog=WHERE)
def status(context: typer.Context, root: Root, job: Job = None, option: Storage = None, json: AsJson = False) -> None:
    """What the store of a job holds and, while one is open, what its cache functions have in memory."""
    from flstore import FLStore

    options = context.obj.at(root, option)
    with FLStore.attach(root, _job(root, options, job), options) as store:
        _show(store.status(), json)


@app.command("rounds", epilog=WHERE)
def list_rounds(
    context: typer.Context, root: Root, job: Job = None, option: Storage = None, json: AsJson = False
) -> None:
    """The rounds that are stored: how many clients, how many bytes, and whether they have aggregate and metadata."""
    from flstore.display.rounds import RoundListed, text
    from flstore.persistence import ObjectStore

    options = context.obj.at(root, option)
    chosen = _job(root, options, job)
    found = [
        RoundListed(number, len(sizes), sum(sizes.values()) + (aggregate or 0), aggregate is not None, metadata)
        for number, sizes, aggregate, metadata in ObjectStore(root, options).listing(chosen)
    ]
    if json:
        _print_json({"job": chosen, "rounds": found})
    else:
        print(text(chosen, found))


@app.command(epilog=WHERE)
def verify(context: typer.Context, root: Root, job: Job = None, option: Storage = None, json: AsJson = False) -> int:
    """Read every object and compare it with its checksum. Changes nothing; status 3 when something is damaged."""
    from flstore.persistence import ObjectStore
    from flstore.persistence import verify as check

    options = context.obj.at(root, option)
    _jobs(ObjectStore(root, options))
    found = check(root, options, job=job)
    _show(found, json)
    if not found.ok:
        context.obj.say(f"{len(found.damaged)} of {found.objects} objects are damaged")
    return 0 if found.ok else DAMAGED


@app.command(epilog=f"{WHERE} {ASKED}")
def request(
    context: typer.Context,
    root: Root,
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", hidden=True)],
    round: Annotated[int | None, typer.Option("--round", "-r", help="The round that it is about.")] = None,
    client: Annotated[str | None, typer.Option("--client", "-c", help="The client that it is about.")] = None,
    several: Annotated[str | None, typer.Option("--rounds", help="The rounds that it is about, as 1,4-6.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter of the workload; may be repeated."),
    ] = None,
    deadline: Annotated[float | None, typer.Option("--deadline", help="Give up after so many seconds.")] = None,
    job: Job = None,
    option: Storage = None,
    json: AsJson = False,
) -> None:
    """Ask for a workload, and print how it was answered and the answer."""
    from flstore import FLStore, workloads

    options = context.obj.at(root, option)
    asked = workloads.make(workload, **pairs("--param", param or []))
    with FLStore.attach(root, _job(root, options, job), options) as store:
        answer = store.request(asked, round=round, client=client, rounds=rounds(several), deadline_s=deadline)
    _show(answer, json)


@app.command()
def reproduce(
    scale: Annotated[str, typer.Option("--scale", help="How much is computed: smoke, laptop or paper.")] = "smoke",
    experiments: Annotated[str, typer.Option("--experiments", help="Only these, as fig07,tab03.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done.")] = False,
    json: AsJson = False,
) -> None:
    """Re-create the paper's figures, tables and ledger; runs in a checkout of the project."""
    from flstore.reproduction import reproduce

    ledger = reproduce(scale, experiments, dry_run, quiet=json)
    if json:
        found = None if ledger is None else {"page": str(ledger.page), "verdicts": ledger.counts().to_dict()}
        _print_json({"scale": scale, "dry_run": dry_run, "ledger": found})
    elif not dry_run:
        print(ledger)


def _jobs(objects: Any) -> list[str]:
    jobs: list[str] = objects.jobs()
    if not jobs:
        raise UpdateNotFoundError(f"there is no job of FLStore below {objects.root}; is that the root of a store?")
    return jobs


def _job(root: str, options: dict[str, Any], job: str | None) -> str:
    """The job that is meant."""
    from flstore.persistence import ObjectStore

    objects = ObjectStore(root, options)
    jobs = _jobs(objects)
    shown = ", ".join(jobs[:20])
    if job is None and len(jobs) == 1:
        return jobs[0]
    if job is None:
        raise InvalidParameterError(f"{objects.root} has several jobs; choose one with --job: {shown}")
    if job not in jobs:
        raise UpdateNotFoundError(f"there is nothing of job {job!r} below {objects.root}; jobs: {shown}")
    return job


def _show(value: Any, json: bool) -> None:
    if json:
        _print_json(value)
    else:
        print(value)


def _print_json(value: Any) -> None:
    from flstore.display.as_json import dumps

    print(dumps(value))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; the exit status."""
    call = Call()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: call.say(message)
        try:
            done = app(args=arguments, prog_name="flstore", standalone_mode=False, obj=call)
        except click.ClickException as error:
            call.say(f"{error.format_message()} (flstore --help says what there is)")
            return WRONG
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except FLStoreError as error:
            call.say(error)
            return WRONG if isinstance(error, InvalidParameterError | InvalidIdError | UnknownNameError) else FAILED
        except BrokenPipeError:
            raise  # typer's: whoever read it has gone
        except Exception as error:  # a traceback could show what must not be seen
            call.say(f"unexpected {type(error).__name__}: {error}")
            return FAILED
    return int(done or 0)


if __name__ == "__main__":
    sys.exit(main())
