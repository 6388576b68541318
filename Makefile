# make demo runs the main job; make test passes the tests. Both do the set-up first.
PYTHON ?= python3.11
DOCKER ?= docker
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' carla_mlflow/__init__.py)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo serve test test-slow test-all test-ci check docs docs-serve bench image

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

# More workers than cores: the tests wait for processes, downloads and timeouts a third of the time.
# In the order that tests/conftest.py gives: pytest-xdist would begin with the groups of the most tests.
PYTEST = $(BIN)/pytest -n 4 --dist loadgroup --no-loadscope-reorder --durations=25

test: $(READY)
	$(PYTEST) -m 'not slow'

# What needs a browser, containers, a cluster, PostgreSQL or Prometheus, or takes long.
test-slow: $(READY)
	$(PYTEST) -m slow

test-all: $(READY)
	$(PYTEST)

# As test-all; what failed runs again at the end, by itself: four tests at once on two busy cores starve one now and then.
test-ci: $(READY)
	$(PYTEST) || { [ $$? -eq 1 ] && echo "== what failed, again by itself; what passes now has to be mended all the same" \
	  && $(BIN)/pytest -n 1 --dist loadgroup --last-failed --last-failed-no-failures none; }

bench: $(READY)
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.startup examples/v0.1.0
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.tampering
	$(BIN)/python -m benchmarks.serving

# Strictly: a link to what is not there, or to a heading that is not, ends it. NO_MKDOCS_2_WARNING: an advertisement.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

docs-serve: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --no-strict

image:
	$(DOCKER) build --build-arg GIT_SHA=$$(git rev-parse --short=12 HEAD) --build-arg VERSION=$(VERSION) -t carla-mlflow .

check: $(READY) docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
