"""Runs the paper's experiments: snakemake, in a checkout of the project."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from flstore.errors import FLStoreError, InvalidParameterError, OptionalDependencyError


def checkout() -> Path:
    """The checkout of the project that this process runs in, else the one that this package lies in.

    Raises
    ------
    InvalidParameterError
        Neither exists.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "Snakefile").is_file() and (folder / "experiments" / "scales").is_dir():
            return folder
    raise InvalidParameterError(
        f"the experiments are part of the project's repository, and {here} is not in a checkout of it: clone it, go "
        f"there and run `make reproduce`, or `flstore reproduce` again"
    )


def reproduce(scale: str, experiments: str = "", dry_run: bool = False, quiet: bool = False) -> Path:
    """Let snakemake make what is missing or out of date, and return the path of the ledger.

    Parameters
    ----------
    scale : str
        The name of a file of ``experiments/scales``.
    experiments : str
        Names separated by commas; default all of the scale.
    dry_run : bool
        Only say what would be done.
    quiet : bool
        Leave the output stream to the caller: what snakemake prints there goes to the error stream.

    Raises
    ------
    InvalidParameterError
        There is no checkout here, or no such scale.
    OptionalDependencyError
        snakemake is not installed.
    FLStoreError
        snakemake failed; it has said why.
    """
    folder = checkout()
    known = sorted(path.stem for path in (folder / "experiments" / "scales").glob("*.yaml") if path.stem != "schema")
    if scale not in known:
        raise InvalidParameterError(f"there is no scale {scale!r}; there are: {', '.join(known)}")
    if importlib.util.find_spec("snakemake") is None:
        raise OptionalDependencyError.of("snakemake", "experiments", "flstore reproduce")
    settings = [f"scale={scale}", *([f"experiments={experiments}"] if experiments else [])]
    command = [sys.executable, "-m", "snakemake", "reproduce-all", *(["--dry-run"] if dry_run else [])]
    done = subprocess.run(
        [*command, "--config", *settings], cwd=folder, check=False, stdout=sys.stderr if quiet else None
    )
    if done.returncode:
        raise FLStoreError(f"snakemake ended with status {done.returncode}; what it said is above")
    return folder / "results" / scale / "ledger.html"
