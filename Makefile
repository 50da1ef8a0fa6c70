# `make demo` and `make test` set themselves up; all they need is Python >= 3.10 with venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL ?= $(BIN)/python -m pip install --quiet
# Tests that run side by side; 0 for one after another in one process, as a debugger needs it.
JOBS ?= 2
SUITE := pytest -m "not slow and not backends" -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test suite lint types layers slow bench instructions backends accelerator format clean

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python %d.%d found, at least 3.10 expected: make PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade "pip>=25.1"
	$(PIP_INSTALL) --editable ".[demo]" --group dev
	@touch $@

demo: $(VENV)/.ready ## Run a leaky program under opentelemetry-instrument; show and write its leaks
	$(BIN)/crawlo-leaks demo --report leaks.html --report leaks.json

test: $(VENV)/.ready ## Run the tests, with branch coverage
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m $(SUITE) $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report $$($(BIN)/python tests/absent.py)

suite: $(VENV)/.ready ## Run the same tests without coverage, which takes two thirds of the time
	$(BIN)/python -m $(SUITE) $(ARGS)

slow: $(VENV)/.ready ## Run the tests that need minutes
	$(BIN)/python -m pytest -m slow -n $(JOBS) --dist worksteal $(ARGS)

backends: $(VENV)/.ready ## Try collector-config/ with a real collector, Jaeger, Zipkin and Prometheus
	bash tests/backends/build.sh
	@if $(BIN)/python tests/backends/stack.py; then $(BIN)/python -m pytest -m backends tests/backends $(ARGS); fi

lint: $(VENV)/.ready ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

accelerator: $(VENV)/.ready ## Build the optional accelerator in C and install it beside the rest (needs a C compiler)
	$(BIN)/python -m pip install --quiet --force-reinstall ./accelerator

bench: $(VENV)/.ready ## Measure what tracking costs, beside what else there is
	$(BIN)/python benchmarks/run.py $(ARGS)

instructions: $(VENV)/.ready ## Count the instructions of the hot paths, and compare them with the baseline
	$(BIN)/python benchmarks/instructions.py $(ARGS)

clean: ## Remove what these commands made
	rm -rf $(VENV) .coverage* leaks.html leaks.json
