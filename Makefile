# One environment, made once: make demo, make test, make test-all, make test-integration, make test-gpu, make check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# What makes and checks deliveries needs other packages than selftune does: an environment of its own.
TOOLS := build/tools
# One thread per process: the demo and the tests run several processes on few cores.
export OMP_NUM_THREADS ?= 1
# The theme's advertisement of its successor.
export NO_MKDOCS_2_WARNING := 1
# Files of tests side by side, a process per core; what a file's tests share is made once. A process that dies fails the
# run at once: with one in its place the run would wait for ever for tests that nobody takes.
PARALLEL := --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test test-all test-integration test-gpu check install docs site tools lock dist gallery

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

# Real servers, clusters and environments, one after the other. tests/services/missing_tools.sh says what of them is not here.
test-integration: $(STAMP) $(TOOLS)/installed
	$(BIN)/pytest --integration -o faulthandler_timeout=1200

# On a machine with a GPU; elsewhere it says in one line how many tests were skipped. docs/gpus.md tells what they check.
test-gpu: $(STAMP)
	$(BIN)/pytest tests/gpu --gpu -q

docs: $(STAMP)
	$(BIN)/selftune list --markdown > docs/catalogue.md
	$(BIN)/python -m selftune.objectives.function_files > objectives/functional.pyi
	$(BIN)/python -m selftune.studies.listing_index
	$(BIN)/python -m selftune.objectives.space_files

# The documentation as a site, in build/site; a link that leads nowhere fails.
site: $(STAMP)
	$(BIN)/python -m mkdocs build --quiet --strict

# docs/gallery.md and its pictures: every packaged study, tuned and held. It takes long, and goes on after a stop.
gallery: $(STAMP)
	$(BIN)/python benchmarks/gallery.py --runs build/gallery

tools: $(TOOLS)/installed

$(TOOLS)/installed: deploy/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement deploy/tools.txt
	touch $@

# What the image installs, with the hash of every file: for torch with CUDA, and without. `make lock TORCH_CPU="--find-links
# FOLDER"` takes torch without CUDA from a folder instead of PyTorch's index.
TORCH_CPU ?= --torch-backend cpu
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command "make lock" \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --extra s3 --extra cluster --constraint constraints.txt
lock: $(TOOLS)/installed
	$(COMPILE) --output-file deploy/requirements-cuda.txt pyproject.toml deploy/requirements.in
	sed -n 's/^torch==.*/&+cpu/p' constraints.txt | \
	    $(COMPILE) $(TORCH_CPU) --output-file deploy/requirements-cpu.txt - pyproject.toml deploy/requirements.in

# The source distribution, and the wheel that is built from it. docs/releases.md tells the rest.
dist: $(TOOLS)/installed
	rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist
	$(TOOLS)/bin/twine check --strict dist/*

check: $(STAMP) $(TOOLS)/installed
	$(TOOLS)/bin/hadolint deploy/Dockerfile
	$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml deploy/compose.cuda.yaml
	$(BIN)/python -m mkdocs build --quiet --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
