# make run: set up and run the main job.  make test: set up, lint, check types, test.  Needs Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test setup lint clean

run: setup
	@$(BIN)/antaeus run ttrl --run-dir runs/first-$$(date +%Y%m%d-%H%M%S)

test: setup lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	@$(BIN)/ruff check src tests
	@$(BIN)/ruff format --check src tests
	@$(BIN)/pyright --pythonpath $(BIN)/python

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Antaeus needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned versions into $(VENV) (the first time only) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps --ignore-requires-python verl
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
