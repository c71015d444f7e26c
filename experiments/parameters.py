"""What an experiment is run with: one file a scale, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flstore.errors import InvalidParameterError

HERE = Path(__file__).parent

FOLDER = Path("build/recordings")
"""Where recorded runs are, by scale; what is below it can be made again at any time."""
NEEDS = {"fig08": ["fig07"], "fig02": ["fig01"]}
"""Experiments that read what others left, at the same scale."""

NOT_TIMED = frozenset(
    {"tab01", "tab03", "fig10", "hitcurve", "leadtime", "capacity", "appb", "appc", "frontier", "fig08", "fig02"}
)
"""They count or model and time nothing, so two of them may run at once; all others have the machine to themselves."""


READERS = frozenset({"appa1", "appa2", "coldstart", "fairness", "fig04", "fig07", "fig09", "load"})
"""Experiments that read recorded runs: their notebooks have a parameter `recordings`, the folder."""


def models_of(experiment: str, parameters: Mapping[str, Any]) -> list[str]:
    """The models whose recordings an experiment reads, with its parameters.

    Examples
    --------
    >>> models_of("load", {"model": "resnet18"}), models_of("tab03", {"clients": 250})
    (['resnet18'], [])
    """
    if experiment not in READERS:
        return []
    return list(parameters["models"]) if "models" in parameters else [parameters["model"]]


def chosen(names: str | list[str] | None, scale: dict[str, Any]) -> list[str]:
    """The experiments to run: those of `scale`, or `names` (a list, or text with commas) and what they need.

    Raises
    ------
    InvalidParameterError
        There is no such experiment; names those that exist.

    Examples
    --------
    >>> chosen("fig08", load_scale("smoke"))
    ['fig07', 'fig08']
    """
    asked = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names or scale)
    unknown = [name for name in asked if name not in scale]
    if unknown:
        raise InvalidParameterError(f"There is no experiment {unknown[0]!r}. Known: {', '.join(sorted(scale))}.")
    return list(dict.fromkeys(each for name in asked for each in (*NEEDS.get(name, ()), name)))


def load_scale(scale: str) -> dict[str, dict[str, Any]]:
    """Parameters of every experiment at `scale`.

    Parameters
    ----------
    scale : {"smoke", "laptop", "paper"}
        How much is run.

    Raises
    ------
    InvalidParameterError
        There is no such scale, or its file does not fit ``scales/schema.yaml``.

    Examples
    --------
    >>> load_scale("smoke")["tab03"]["clients"]
    250
    """
    parameters = _scale(scale)
    del parameters["recordings"]
    return parameters


def load_recordings(scale: str) -> dict[str, Any]:
    """How the runs of training are recorded that experiments share at `scale`: `models`, and arguments of ``record``.

    Raises
    ------
    InvalidParameterError
        As :func:`load_scale`.

    Examples
    --------
    >>> load_recordings("smoke")["models"]
    ['resnet18', 'mobilenet_v3_small']
    """
    return _scale(scale)["recordings"]


def _scale(scale: str) -> dict[str, dict[str, Any]]:
    path = HERE / "scales" / f"{scale}.yaml"
    known = sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem != "schema")
    if scale not in known:
        raise InvalidParameterError(f"There is no scale named {scale!r}. Known: {', '.join(known)}.")
    parameters: dict[str, dict[str, Any]] = _read(path)
    check_scale(parameters, path.name)
    return parameters


def check_scale(parameters: Any, name: str) -> None:
    """Raise :class:`InvalidParameterError` when `parameters` (of the file `name`) do not fit the schema of scales.

    Nor when an experiment reads more than is recorded.
    """
    import jsonschema

    schema = _read(HERE / "scales" / "schema.yaml")
    validator = jsonschema.Draft202012Validator({**schema, "required": sorted(schema["properties"])})
    faults = [f"{'.'.join(map(str, e.path)) or 'the file'}: {e.message}" for e in validator.iter_errors(parameters)]
    if faults:
        raise InvalidParameterError(f"experiments/scales/{name} does not fit its schema: {'; '.join(faults)}")
    there = parameters["recordings"]
    for experiment in sorted(READERS):
        given = parameters[experiment]
        for key in ("rounds", "per_round"):
            if given.get(key, 0) > there[key]:
                faults.append(f"{experiment}.{key}: {given[key]} is more than the {there[key]} of recordings.{key}")
        for model in sorted(set(models_of(experiment, given)) - set(there["models"])):
            faults.append(f"{experiment}: recordings.models lacks {model!r}")
    if faults:
        raise InvalidParameterError(f"experiments/scales/{name} asks for what is not recorded: {'; '.join(faults)}")


def title_of(experiment: str) -> str:
    """The heading of an experiment's notebook.

    Examples
    --------
    >>> title_of("fig08")
    'Figure 8: what a request costs'
    """
    import nbformat

    return heading(nbformat.read(HERE / f"{experiment}.ipynb", as_version=4))


def heading(notebook: Any) -> str:
    """The first heading in the markdown of a notebook; empty when there is none."""
    lines = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")


def check_notebook(notebook: Path, parameters: dict[str, Any]) -> None:
    """Raise :class:`InvalidParameterError` unless the `parameters` cell of `notebook` has every one of `parameters`.

    Papermill itself only warns, and then runs with the notebook's defaults: a result under a wrong label.
    """
    import nbformat
    import papermill

    cells = nbformat.read(notebook, as_version=4).cells
    if not any("parameters" in cell.metadata.get("tags", []) for cell in cells):
        raise InvalidParameterError(f"{notebook.name} has no cell with the tag 'parameters', so nothing can be set")
    known = papermill.inspect_notebook(str(notebook))
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidParameterError(
            f"{notebook.name} has no parameter {', '.join(map(repr, unknown))}. Known: {', '.join(sorted(known))}."
        )


def _read(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))
