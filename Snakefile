# snakemake reproduce-all [--config scale=laptop]
import hashlib
import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from experiments.parameters import load_scale

min_version("9.16")
validate(config, "experiments/config.schema.yaml")

SCALE, RESULTS, EXPERIMENTS = config["scale"], config["results"], config["experiments"]
PARAMETERS = load_scale(SCALE)
OUT = f"{RESULTS}/{SCALE}"
# A figure must not outlive the code that made it.
PACKAGE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path("flstore").rglob("*.py")))).hexdigest()


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
        "experiments/{experiment}.ipynb",
        "experiments/{experiment}.py",
        "experiments/style.py",
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
        package=PACKAGE,
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
