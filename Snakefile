# snakemake reproduce-all [--config scale=laptop experiments=fig07,fig10]
import hashlib
import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from experiments.parameters import NEEDS, NOT_TIMED, chosen, load_scale
from experiments.room import check_room

min_version("9.16")
validate(config, "experiments/config.schema.yaml")

SCALE, RESULTS = config["scale"], config["results"]
PARAMETERS = load_scale(SCALE)
EXPERIMENTS = chosen(config.get("experiments"), PARAMETERS)
OUT = f"{RESULTS}/{SCALE}"
# A figure must not outlive the code that made it.
PACKAGE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path("flstore").rglob("*.py")))).hexdigest()


onstart:
    check_room(SCALE, PARAMETERS, EXPERIMENTS)


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
        lambda wildcards: [str(path) for path in Path("experiments").glob(f"{wildcards.experiment}.yaml")],
        lambda wildcards: [f"{OUT}/{name}/data.csv" for name in NEEDS.get(wildcards.experiment, [])],
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
        experiment=lambda wildcards: 1 if wildcards.experiment in NOT_TIMED else 2,
    shell:
        "{sys.executable:q} -m experiments.run_notebook {wildcards.experiment} --scale {SCALE} --results {RESULTS:q} > {log:q} 2>&1"


rule ledger:
    input:
        expand(OUT + "/{experiment}/{name}", experiment=EXPERIMENTS, name=["data.csv", "figure.svg"]),
        "experiments/claims.csv",
        "experiments/claims.py",
        sorted(map(str, Path("experiments/rules").glob("*.py"))),
        "experiments/ledger.py",
        "experiments/ledger.html.j2",
    output:
        OUT + "/ledger.html",
        OUT + "/ledger.csv",
    localrule: True
    shell:
        "{sys.executable:q} -m experiments.ledger --scale {SCALE} --results {RESULTS:q} {EXPERIMENTS}"
