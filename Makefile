# `make` shows the targets. The first one that needs it makes .venv and installs everything in it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
COMMA := ,
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest
LOWEST_STAMP := $(LOWEST)/.installed
EXTRAS := $(if $(shell command -v nvidia-smi),dev$(COMMA)cuda,dev)
PYTEST := -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal
# What a version of Keras can break: reading, pricing and making models, layers, metrics, data, and
# the contract of one searching strategy.
LOWEST_TESTS := tests/affinity tests/callbacks tests/data tests/graph tests/heads tests/layers tests/metrics \
  tests/partition tests/plot tests/tuners tests/test_*.py
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test test-slow test-all test-lowest lint format bench clean
.DEFAULT_GOAL := help

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

define venv
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "keras_mtl needs Python 3.11 or newer. Call make with PYTHON=/path/to/python3.11." >&2; exit 1; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef
INSTALL := bin/python -m pip install --quiet --disable-pip-version-check

$(STAMP): pyproject.toml
	$(call venv,$(VENV))
	$(VENV)/$(INSTALL) -e ".[$(EXTRAS)]"
	@touch $@

$(LOWEST_STAMP): pyproject.toml .ci/lowest.py
	@rm -rf $(LOWEST) # else what it has would stay where it is new enough
	$(call venv,$(LOWEST))
	@$(LOWEST)/bin/python .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/$(INSTALL) --constraint $(LOWEST)/constraints.txt -e ".[test]"
	@touch $@

demo: $(STAMP) ## train the multi-digit example on the CPU or the GPU
	@$(VENV)/bin/python examples/multidigits.py

test: lint ## check style and types, then run the quick tests, in up to four processes
	@$(VENV)/bin/python $(PYTEST) -m "not slow and not heavy"

test-slow: $(STAMP) ## run the tests that `make test` leaves out because they are slow
	@$(VENV)/bin/python $(PYTEST) -m "slow and not heavy"

test-all: lint ## check style and types, then run all tests but the heavy ones
	@$(VENV)/bin/python $(PYTEST) -m "not heavy"

test-lowest: $(LOWEST_STAMP) ## run quick tests with the lowest versions that pyproject.toml allows
	@$(LOWEST)/bin/python $(PYTEST) -m "not slow and not heavy" $(LOWEST_TESTS)
	@$(LOWEST)/bin/python $(PYTEST) -m "not slow and not heavy" -k "adashare and not reference" \
	  tests/strategies/test_contract.py

lint: $(STAMP) ## check style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

format: $(STAMP) ## put the code into house style
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

bench: $(STAMP) ## write the tables of speed and quality
	@for script in benchmarks/*.py; do $(VENV)/bin/python "$$script" || exit 1; done

clean: ## remove the virtual environments and everything built
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
