# snakemake reproduce-all [--config scale=laptop experiments=fig07,fig10]
import hashlib
import sys
from pathlib import Path

from snakemake.utils import min_version, validate

from experiments.parameters import NEEDS, NOT_TIMED, chosen, load_recordings, load_scale, models_of, title_of
from experiments.room import check_room

min_version("9.16")
validate(config, "experiments/config.schema.yaml")

SCALE, RESULTS = config["scale"], config["results"]
PARAMETERS, RECORDINGS = load_scale(SCALE), load_recordings(SCALE)
EXPERIMENTS = chosen(config.get("experiments"), PARAMETERS)
OUT = f"{RESULTS}/{SCALE}"
# A figure must not outlive the code that made it.
PACKAGE = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path("flstore").rglob("*.py")))).hexdigest()


onstart:
    check_room(SCALE, PARAMETERS, EXPERIMENTS, RECORDINGS)


wildcard_constraints:
    experiment="[a-z0-9_]+",


# A rule whose name has a hyphen cannot be written as `rule reproduce-all:`.
rule:
    name: "reproduce-all"
    default_target: True
    localrule: True
    input:
        f"{OUT}/ledger.html",


rule recording:
    output:
        OUT + "/recordings/{model}.json",
    log:
        OUT + "/logs/recording-{model}.log",
    benchmark:
        OUT + "/logs/recording-{model}.tsv"
    params:
        settings=RECORDINGS,
    wildcard_constraints:
        model="|".join(RECORDINGS["models"]),
    resources:
        experiment=1,
    shell:
        "{sys.executable:q} -m experiments.recordings {wildcards.model} --scale {SCALE} --results {RESULTS:q} > {log:q} 2>&1"


rule experiment:
    input:
        "experiments/{experiment}.ipynb",
        "experiments/{experiment}.py",
        "experiments/style.py",
        lambda wildcards: [str(path) for path in Path("experiments").glob(f"{wildcards.experiment}.yaml")],
        lambda wildcards: [f"{OUT}/{name}/data.csv" for name in NEEDS.get(wildcards.experiment, [])],
        lambda wildcards: [
            f"{OUT}/recordings/{model}.json" for model in models_of(wildcards.experiment, PARAMETERS[wildcards.experiment])
        ],
    output:
        OUT + "/{experiment}/executed.ipynb",
        OUT + "/{experiment}/data.csv",
        OUT + "/{experiment}/figure.png",
        report(
            OUT + "/{experiment}/figure.svg",
            caption="experiments/captions/experiment.rst",
            category="Figures",
            labels={"experiment": "{experiment}"},
        ),
        OUT + "/{experiment}/run.json",
    log:
        OUT + "/logs/{experiment}.log",
    benchmark:
        OUT + "/logs/{experiment}.tsv"
    params:
        # Read from the scale's file by the script; named here so that a changed parameter runs its experiment again.
        parameters=lambda wildcards: PARAMETERS[wildcards.experiment],
        package=PACKAGE,
        title=lambda wildcards: title_of(wildcards.experiment),
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
        expand("experiments/{name}", name=["ledger.py", "ledger.html.j2", "index.md.j2", "report.py", "report.html.j2", "page.css"]),
    output:
        report(OUT + "/ledger.html", caption="experiments/captions/ledger.rst", category="Ledger"),
        OUT + "/ledger.csv",
        OUT + "/README.md",
        OUT + "/report.html",
    localrule: True
    shell:
        "{sys.executable:q} -m experiments.ledger --scale {SCALE} --results {RESULTS:q} {EXPERIMENTS}"
        " && {sys.executable:q} -m experiments.report --scale {SCALE} --results {RESULTS:q}"
