"""Run one experiment: its notebook with the parameters of a scale, and a record of what it ran on.

``python -m experiments.run_notebook tab03 --scale smoke`` writes ``results/smoke/tab03/``. While it
runs, the notebook is ``results/<scale>/logs/<experiment>.ipynb``; one that fails stays there as it failed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from experiments.parameters import FOLDER, HERE, check_notebook, chosen, load_recordings, load_scale, models_of
from experiments.provenance import describe
from experiments.recordings import recorded
from experiments.room import check_room


def run(notebook: Path, parameters: dict[str, Any], outdir: Path, running: Path) -> None:
    """Execute `notebook` with `parameters` into `outdir`.

    Parameters
    ----------
    notebook : Path
        A notebook with a cell tagged ``parameters``; the kernel runs in its folder, as it does in JupyterLab.
    parameters : dict
        Values for names of that cell; ``outdir`` is added.
    outdir : Path
        Gets ``executed.ipynb`` and ``run.json``, beside what the notebook itself writes there.
    running : Path
        The notebook while it runs, and after it failed.

    Raises
    ------
    InvalidParameterError
        The notebook has no such parameter; nothing was run.
    papermill.PapermillExecutionError
        A cell raised; its notebook is at `running`.
    """
    import papermill

    # Relative, because the executed notebook is committed and shows it.
    parameters = {**parameters, "outdir": os.path.relpath(outdir, notebook.parent)}
    check_notebook(notebook, parameters)
    outdir.mkdir(parents=True, exist_ok=True)
    running.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    papermill.execute_notebook(
        os.path.relpath(notebook),
        os.path.relpath(running),
        parameters,
        kernel_name="python3",
        cwd=str(notebook.parent),
        progress_bar=False,
        log_output=True,
    )
    running.replace(outdir / "executed.ipynb")
    record = describe(parameters, duration_s=time.perf_counter() - began)
    (outdir / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m experiments.run_notebook``."""
    import logging

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="the name of a notebook in experiments/")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    scale = load_scale(options.scale)
    chosen(options.experiment, scale)
    check_room(options.scale, scale, [options.experiment])
    base = options.results / options.scale
    parameters = dict(scale[options.experiment])
    folder = FOLDER / options.scale
    for model in models_of(options.experiment, parameters):
        recorded(model, load_recordings(options.scale), folder)  # there already, when the workflow has come here
        parameters["recordings"] = os.path.relpath(folder, HERE)
    run(
        HERE / f"{options.experiment}.ipynb",
        parameters,
        base / options.experiment,
        base / "logs" / f"{options.experiment}.ipynb",
    )


if __name__ == "__main__":
    main()
