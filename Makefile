# Every target sets up .venv by itself when it is missing, or when what it is made from has changed.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# The versions are resolved for 3.11; a newer Python is taken when there is no 3.11.
PYTHON ?= $(shell for p in python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
SCALE ?= smoke
# Files of tests that run side by side.
WORKERS ?= 2
# What JupyterLab shows, and more options for it: make lab LAB="--no-browser --port=9000"
LAB_ROOT ?= .
LAB ?=
# More options for mkdocs: make docs DOCS="--site-dir=elsewhere"
DOCS ?=

.DEFAULT_GOAL := help
.PHONY: help install reproduce test lint format bench lab docs browser clean

help:
	@echo "make reproduce [SCALE=smoke|laptop|paper]  every figure, table and the ledger, into results/<scale>/"
	@echo "make test       unit, service and notebook tests"
	@echo "make lint       ruff and mypy            make format  what ruff can mend by itself"
	@echo "make bench      the speed figures        make lab     JupyterLab on this machine, with the tutorials"
	@echo "make docs       the site, in build/site  make browser tutorials and monitor in JupyterLab, in a Chromium"
	@echo "make clean      remove .venv, caches and what reproduce wrote at scale smoke"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: name one, as in 'make $(MAKECMDGOALS) PYTHON=/path/to/python3.11'" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@touch $@

reproduce: $(READY)
	$(BIN)/snakemake reproduce-all --config scale=$(SCALE)

# Two processes that train on two cores take turns; with OpenMP's default they would spin while they wait.
test: $(READY)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --nbval --nbval-sanitize-with notebooks/sanitize.cfg --nbval-cell-timeout 120 tests notebooks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks latency

# On loopback, with a token that JupyterLab makes up at each start; the kernel is the Python of this environment.
lab: $(READY)
	$(BIN)/python -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$(LAB_ROOT)" \
		--LabApp.default_url=/lab/tree/notebooks/01-first-look.ipynb $(LAB)

# A warning is an error: `strict` in mkdocs.yml (which `--quiet` would turn off).
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean $(DOCS)
	@echo "the site is in build/site: open build/site/index.html, or serve it with $(BIN)/python -m http.server -d build/site"

browser: $(READY)
	$(BIN)/python -m pytest -m browser tests/browser

clean:
	rm -rf $(VENV) .snakemake .mypy_cache .ruff_cache .pytest_cache .hypothesis results/smoke build *.egg-info
	find flstore experiments tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
