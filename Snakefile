# snakemake reproduce-all [--config scale=laptop]
import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from experiments.parameters import load_scale

min_version("9.16")
validate(config, "experiments/config.schema.yaml")

SCALE, RESULTS, EXPERIMENTS = config["scale"], config["results"], config["experiments"]
PARAMETERS = load_scale(SCALE)
OUT = f"{RESULTS}/{SCALE}"
PACKAGE = sorted(map(str, Path("flstore").rglob("*.py")))


wildcard_constraints:
    experiment="[a-z0-9_]+",


# A rule whose name has a hyphen cannot be written as `rule reproduce-all:`.
rule:
    name: "reproduce-all"
    default_target: True
    localrule: True
    input:
        f"{OUT}/ledger.html",


rule experiment:
    input:
        # The package is an input: a figure must not outlive the code that made it.
        "experiments/{experiment}.ipynb",
        "experiments/{experiment}.py",
        "experiments/style.py",
        PACKAGE,
    output:
        OUT + "/{experiment}/executed.ipynb",
        OUT + "/{experiment}/data.csv",
        OUT + "/{experiment}/figure.png",
        OUT + "/{experiment}/figure.svg",
        OUT + "/{experiment}/run.json",
    log:
        OUT + "/logs/{experiment}.log",
    params:
        # Read from the scale's file by the script; named here so that a changed parameter runs its experiment again.
        parameters=lambda wildcards: PARAMETERS[wildcards.experiment],
    resources:
        experiment=1,
    shell:
        "{sys.executable:q} -m experiments.run_notebook {wildcards.experiment} --scale {SCALE} --results {RESULTS:q} > {log:q} 2>&1"


rule ledger:
    input:
        expand(OUT + "/{experiment}/{name}", experiment=EXPERIMENTS, name=["data.csv", "figure.svg"]),
        "experiments/claims.csv",
        "experiments/claims.py",
        "experiments/rules.py",
        "experiments/ledger.py",
        "experiments/ledger.html.j2",
    output:
        OUT + "/ledger.html",
        OUT + "/ledger.csv",
    localrule: True
    shell:
        "{sys.executable:q} -m experiments.ledger --scale {SCALE} --results {RESULTS:q} {EXPERIMENTS}"
