"""What holds for the project as a whole: one list of packages, who may import whom, no unpickling, small files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flstore"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LEFT_OUT_OF_ALL = {"simulation"}


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def direct_requirements() -> list[Requirement]:
    listed = PROJECT["dependencies"] + [line for name, extra in EXTRAS.items() if name != "all" for line in extra]
    return [Requirement(line) for line in listed]


# --- packages -------------------------------------------------------------------------------------------------------


def test_environment_yml_installs_what_pyproject_lists():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=" + PROJECT["requires-python"].removeprefix(">="), "pip"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[all]"]}


def test_all_is_every_extra_but_those_left_out_for_a_reason():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(EXTRAS) - {"all"} - LEFT_OUT_OF_ALL


def test_every_constraint_pins_one_version_of_one_package():
    wrong = [line for line in constraint_lines() if not re.fullmatch(r"[a-z0-9][a-z0-9-]*==[0-9][0-9A-Za-z.]*", line)]
    assert wrong == []
    names = [line.split("==")[0] for line in constraint_lines()]
    assert sorted(set(names)) == names


def test_every_direct_requirement_is_pinned_to_a_version_that_it_allows():
    pins = dict(line.split("==") for line in constraint_lines())
    for requirement in direct_requirements():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} has no pin in constraints.txt"
        assert pins[name] in requirement.specifier, f"{requirement} does not allow the pin {pins[name]}"


# --- imports --------------------------------------------------------------------------------------------------------


def in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["flstore", "flstore.policies", "flstore.simulator", "flstore.workloads", "flstore.federated", "flstore.cost"],
)
def test_importing_the_package_pulls_in_nothing_heavy(module: str):
    heavy = ["torch", "flwr", "nvflare", "distributed", "sklearn", "s3fs", "IPython", "matplotlib"]
    assert in_fresh_python(f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])") == "[]"


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; ``from a import b`` gives both ``a`` and ``a.b``."""
    found = set()
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {module_name(path): imports_of(path) for path in MODULES}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def ours(module: str) -> set[str]:
    """What a module imports of this package, without the package's own name."""
    return {name for name in IMPORTS[module] if within(name, "flstore")} - {"flstore"}


ALLOWED = {
    "flstore.errors": (),
    "flstore.types": ("flstore.errors",),
    # An object says how it is shown: all of them may use display, which itself imports none of the layers.
    "flstore.policies": ("flstore.types", "flstore.errors", "flstore.display.policy", "flstore.policies"),
    "flstore.engine": (
        *("flstore.types", "flstore.errors", "flstore.policies.base", "flstore.display.trace", "flstore.engine"),
    ),
    "flstore.simulator": (
        *("flstore.types", "flstore.errors", "flstore.policies", "flstore.engine", "flstore.display"),
        *("flstore.cost", "flstore.simulator"),
    ),
    "flstore.cost": ("flstore.errors", "flstore.display", "flstore.cost"),
    "flstore.display": ("flstore.display",),
    "flstore.workloads": (
        "flstore.display.table",
        *("flstore.types", "flstore.errors", "flstore.codec", "flstore.tensors", "flstore.policies.taxonomy"),
        "flstore.workloads",
    ),
}


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_lies_below_it(layer: str):
    members = [module for module in IMPORTS if within(module, layer)]
    assert members, f"{layer} is gone"
    wrong = {m: sorted(n for n in ours(m) if not within(n, *ALLOWED[layer])) for m in members}
    assert {m: names for m, names in wrong.items() if names} == {}


_FLOWER = ("app", "client", "flower_app", "grid", "identity", "recorder", "restoring", "strategy")
IMPORTERS = {
    "distributed": ("flstore.functions",),
    "flwr": tuple(f"flstore.federated.{name}" for name in _FLOWER),
    "nvflare": ("flstore.federated.nvflare",),
}


@pytest.mark.parametrize("package", IMPORTERS)
def test_a_framework_is_imported_in_its_own_place_only(package: str):
    importers = {module for module, names in IMPORTS.items() if any(within(name, package) for name in names)}
    assert {m for m in importers if not within(m, *IMPORTERS[package])} == set()


# --- source ---------------------------------------------------------------------------------------------------------

UNPICKLING = ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_is_pickled_or_unpickled(path: Path):
    assert {name for name in IMPORTS[module_name(path)] if within(name, *UNPICKLING)} == set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save"), f"line {node.lineno}: {called} pickles"
            unsafe = [k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) != "False"]
            assert unsafe == [], f"line {node.lineno}: allow_pickle"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_is_short_or_says_why_not(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    reason = any(line.startswith("# Longer than 300 lines because ") for line in lines[:30])
    assert len(lines) <= 300 or reason, f"{len(lines)} lines and no '# Longer than 300 lines because ...' at its head"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.ipynb")), ids=lambda path: path.stem)
def test_experiment_notebooks_are_committed_without_outputs(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert [cell for cell in cells if cell.outputs or cell.execution_count is not None] == []
