# Two commands do everything on a fresh machine with Python 3.11 and make:
#   make bench    set up, run the quick suite on the built-in data, write the report
#   make test     set up, run the tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FBGEMM_VERSION := $(shell sed -n 's/^\# fbgemm==//p' requirements/torchrec.txt)

READY_FOR_TESTS := $(VENV)/.ready-for-tests
EXTRAS := requirements/docs.txt requirements/notebooks.txt requirements/watch.txt

.PHONY: setup bench test lint docs clean gpu-check

setup: $(READY)

$(READY): requirements/torch.txt requirements/torchrec.txt requirements/triton.txt requirements/base.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/torch.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/torchrec.txt \
	  "fbgemm-gpu$$($(BIN)/python -c 'import torch; print("" if torch.version.cuda else "-cpu")')==$(FBGEMM_VERSION)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/triton.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/base.txt
	touch $(READY)

$(READY_FOR_TESTS): $(READY) $(EXTRAS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(EXTRAS:%=-r %)
	touch $(READY_FOR_TESTS)

bench: $(READY)
	$(BIN)/python run_bench.py run quick

# Files of tests are shared out to as many processes as there are cores, a thread each.
test: $(READY_FOR_TESTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY_FOR_TESTS)
	$(BIN)/python docs/write_command_line.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

gpu-check: $(READY)
	$(BIN)/python run_bench.py doctor

clean:
	rm -rf $(VENV) cache out site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
