# One environment, made once: make demo, make test, make test-all, make check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# One thread per process: the demo and the tests run several processes on few cores.
export OMP_NUM_THREADS ?= 1
# The theme's advertisement of its successor.
export NO_MKDOCS_2_WARNING := 1
# Files of tests side by side, a process per core; what a file's tests share is made once. A process that dies fails the
# run at once: with one in its place the run would wait for ever for tests that nobody takes.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test test-all check install docs site

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0" --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(STAMP)
	$(BIN)/selftune run digits

test: $(STAMP)
	$(BIN)/pytest $(PARALLEL)

# The full matrix, then what compares numbers at every level of vector instructions: under 45 minutes on 2 cores.
test-all: $(STAMP)
	$(BIN)/pytest $(PARALLEL) --full
	$(BIN)/python tests/every_level.py

docs: $(STAMP)
	$(BIN)/selftune list --markdown > docs/catalogue.md
	$(BIN)/python -m selftune.objectives.function_files > objectives/functional.pyi
	$(BIN)/python -m selftune.studies.listing_index
	$(BIN)/python -m selftune.objectives.space_files

# The documentation as a site, in build/site; a link that leads nowhere fails.
site: $(STAMP)
	$(BIN)/python -m mkdocs build --quiet --strict

check: $(STAMP)
	$(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
