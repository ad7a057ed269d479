# `make` shows the targets. The first one that needs it makes .venv and installs everything in it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
COMMA := ,
STAMP := $(VENV)/.installed
EXTRAS := $(if $(shell command -v nvidia-smi),dev$(COMMA)cuda,dev)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test lint format bench clean
.DEFAULT_GOAL := help

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): setup.py
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "keras_mtl needs Python 3.11 or newer. Call make with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$(EXTRAS)]"
	@touch $@

demo: $(STAMP) ## train the multi-digit example on the CPU or the GPU
	@$(VENV)/bin/python examples/multidigits.py

test: $(STAMP) ## check style, then run all tests, in up to four processes
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal

lint: $(STAMP) ## check style
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: $(STAMP) ## put the code into house style
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(STAMP) ## write the tables of speed and quality
	@for script in benchmarks/*.py; do $(VENV)/bin/python "$$script" || exit 1; done

clean: ## remove .venv and everything built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
