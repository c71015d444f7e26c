"""Runs the paper's experiments, by snakemake in a checkout of the project, and reads what was found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from flstore.errors import FLStoreError, InvalidParameterError, OptionalDependencyError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Ledger:
    """Every claim of the paper, with what was found at one scale and the verdict on it.

    Attributes
    ----------
    scale : str
        How much was computed.
    page : Path
        ``ledger.html``, which says it all.
    claims : DataFrame
        One row a claim, by its id: section, experiment, quantity, the paper's value, ours measured and modelled, that
        against a strong baseline, verdict, reason, and the figure's path below the folder of the page.

    Examples
    --------
    >>> ledger = Ledger.read("laptop")
    >>> len(ledger.claims)
    61
    >>> int(ledger.counts().sum())
    61
    """

    scale: str
    page: Path
    claims: pd.DataFrame

    @classmethod
    def read(cls, scale: str = "smoke") -> Self:
        """What the checkout that this process runs in has below ``results/``.

        Parameters
        ----------
        scale : str
            As for :func:`reproduce`.

        Raises
        ------
        InvalidParameterError
            There is no checkout here, or nothing was reproduced at that scale.
        """
        import pandas as pd

        page = checkout() / "results" / scale / "ledger.html"
        table = page.with_suffix(".csv")
        if not table.is_file():
            there = ", ".join(sorted(path.parent.name for path in page.parents[1].glob("*/ledger.csv"))) or "none"
            raise InvalidParameterError(
                f"there is no {table}; scales with a ledger: {there}; `flstore reproduce --scale {scale}` makes it"
            )
        return cls(scale, page, pd.read_csv(table, index_col="id", dtype=str))

    def counts(self) -> pd.Series:
        """How many claims have each verdict, the most frequent first."""
        return self.claims["verdict"].value_counts()

    def frame(self) -> pd.DataFrame:
        """The claims, to compute on."""
        return self.claims

    def __repr__(self) -> str:
        from flstore.display.ledger import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.ledger import html

        return html(self)


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


def reproduce(scale: str, experiments: str = "", dry_run: bool = False, quiet: bool = False) -> Ledger | None:
    """Let snakemake make what is missing or out of date, and return the ledger.

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

    Returns
    -------
    Ledger or None
        None of a dry run when there is no ledger yet.

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
    there = (folder / "results" / scale / "ledger.csv").is_file()
    return Ledger.read(scale) if there or not dry_run else None
