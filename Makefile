# make demo runs the main job; make test passes the tests. Both do the set-up first.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo serve test check bench

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

serve: $(READY)
	$(BIN)/carla-serve --model examples/v0.1.0

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadgroup

bench: $(READY)
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.startup examples/v0.1.0
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.tampering
	$(BIN)/python -m benchmarks.serving

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
