# `make` alone lists what there is. What a target needs is installed in .venv before; scripts/setup says how far it is.
DOCKER ?= docker
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' carla_mlflow/__init__.py)
BIN := .venv/bin
TIMED := @scripts/timed
# scripts/find-python chooses, unless somebody says which: make setup PYTHON=python3.12
export PYTHON

# With everything for working on the project; and with no more than running it takes, unless the other is there already.
READY := .venv/.ready
RUNS := $(if $(wildcard $(READY)),$(READY),.venv/.ready-to-run)
# Times that are told where the same was never done in this folder. Bringing up to date is not timed as the set-up is.
SETUP := $(if $(wildcard .venv/.ready .venv/.ready-to-run),update,setup)
SETUP_TAKES := 3 to 20 min, by the line to the package index

.DEFAULT_GOAL := help
.NOTPARALLEL: # with -j two set-ups would write into one .venv
.PHONY: help demo serve setup test test-slow test-all test-ci coverage check format docs docs-serve bench image clean \
  distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

demo: $(RUNS) ## train a policy, export, register, promote, serve it, and drive by asking the server
	$(TIMED) demo 'the demo, in 8 steps' '2 to 5 min' env PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo

serve: $(RUNS) ## serve the example policy on port 8080
	$(BIN)/carla-serve --model examples/v0.1.0

setup: $(READY) ## install everything in .venv, for working on the project
	@echo 'in .venv; next: source .venv/bin/activate'

.venv/.ready: pyproject.toml constraints.txt
	$(TIMED) $(SETUP)-dev 'set-up in .venv, in 3 steps (all that working on the project takes; 4 GB or more)' '$(SETUP_TAKES)' scripts/setup dev

.venv/.ready-to-run: pyproject.toml constraints.txt
	$(TIMED) $(SETUP)-run 'set-up in .venv, in 3 steps (what running it takes; 2 GB or more)' '$(SETUP_TAKES)' scripts/setup run

# A worker more than cores, since tests wait for processes and downloads; at most 8, for the memory of what they start.
# In the order that tests/conftest.py gives: pytest-xdist would begin with the groups of the most tests.
WORKERS := $(shell cores=$$(nproc); echo $$((cores < 7 ? cores + 1 : 8)))
PYTEST = $(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations=25

test: $(READY) ## run the tests, but for the slow ones
	$(TIMED) test 'the tests that are not slow' '10 to 40 min' $(PYTEST) -m 'not slow'

test-slow: $(READY) ## run those that need a browser, containers, a cluster, PostgreSQL or Prometheus, or take long
	$(TIMED) test-slow 'the slow tests' 'an hour or more' $(PYTEST) -m slow

test-all: $(READY) ## run all of them
	$(TIMED) test-all 'all tests' 'an hour or more' $(PYTEST)

# As test-all; what failed runs again at the end, by itself: four tests at once on two busy cores starve one now and then.
test-ci: $(READY)
	$(PYTEST) || { [ $$? -eq 1 ] && echo "== what failed, again by itself; what passes now has to be mended all the same" \
	  && $(BIN)/pytest -n 1 --dist loadgroup --last-failed --last-failed-no-failures none; }

coverage: $(READY) ## run the tests that are not slow, and say which lines they reach (also as pages, in htmlcov/)
	$(TIMED) coverage 'the tests that are not slow, watched' '15 to 60 min' \
	  $(PYTEST) -m 'not slow' --cov --cov-report=term:skip-covered --cov-report=html
	@echo "htmlcov/index.html"

check: $(READY) docs ## check format, style, types, and the documentation's links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## bring the code into its format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Strictly: a link to what is not there, or to a heading that is not, ends it. NO_MKDOCS_2_WARNING: an advertisement.
docs: $(READY) ## build the documentation as pages, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

docs-serve: $(READY) ## show the documentation while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --no-strict

bench: $(READY) ## run the main benchmarks
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.startup examples/v0.1.0
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.tampering
	$(BIN)/python -m benchmarks.serving

image: ## build the container image
	$(DOCKER) build --build-arg GIT_SHA=$$(git rev-parse --short=12 HEAD) --build-arg VERSION=$(VERSION) -t carla-mlflow .

# What was built, by name. What somebody has made with the project stays: checkpoint/, policies/, mlflow.db, mlruns/, secrets.
BUILT = .demo site dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
OURS = $(wildcard benchmarks carla_agent carla_mlflow registry scripts serve tests training_export)

clean: ## remove what was built: the demo's folder, pages, packages, caches; nothing that you have made
	@for built in $(wildcard $(BUILT)); do echo "removing $$built"; rm -rf "$$built"; done
	@find $(OURS) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## and .venv
	@if [ -e .venv ]; then echo "removing .venv"; rm -rf .venv; fi
