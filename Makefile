# Two commands do everything on a fresh machine with Python 3.11 and make:
#   make bench    set up, run the quick suite on the built-in data, write the report
#   make test     set up, run the tests
# pyproject.toml says what is installed, requirements/lock.txt in which versions.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements/lock.txt
STATED := pyproject.toml requirements/lock.txt
READY := $(VENV)/.ready
READY_FOR_TESTS := $(VENV)/.ready-for-tests

.PHONY: setup bench test test-ray lint docs clean gpu-check

setup: $(READY)

# torch first and alone: the other packages take the torch that is here, a CUDA build or one for CPUs. torchrec
# without its declared dependencies: they name the CUDA build of fbgemm-gpu, whose files would overwrite the CPU
# build's. It is last, since pip prints an error about the missing build when it installs what torchrec depends on.
# The flavour of fbgemm follows torch.
$(READY): $(STATED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable ".[bench]"
	$(PIP) --no-deps torchrec \
	  "fbgemm-gpu$$($(BIN)/python -c 'import torch; print("" if torch.version.cuda else "-cpu")')"
	touch $(READY)

$(READY_FOR_TESTS): $(READY)
	$(PIP) --editable ".[bench,dev,docs,notebooks,watch,export,ray,s3]"
	touch $(READY_FOR_TESTS)

bench: $(READY)
	$(BIN)/python run_bench.py run quick

# Files of tests are shared out, in conftest.py's order, to one process more than there are cores, a thread
# each: tests of whole commands wait for them.
CORES = $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
test: $(READY_FOR_TESTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(( $(CORES) + 1 )) --dist loadfile --no-loadscope-reorder

# Tests that start a Ray cluster.
test-ray: $(READY_FOR_TESTS)
	TEST_RAY=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/suites/test_on_ray.py tests/datasets/staged/test_on_ray.py

lint: $(READY_FOR_TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY_FOR_TESTS)
	OMP_NUM_THREADS=1 $(BIN)/python docs/kept_reports.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

gpu-check: $(READY)
	$(BIN)/python run_bench.py doctor

clean:
	rm -rf $(VENV) build cache out site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
