# One entry for everything. `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AUDITOR := .cache/auditor

.DEFAULT_GOAL := help
.PHONY: help demo test unit process faults conformance soak lint format docs lock audit sbom clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "podium needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## run the order workflow on the embedded server
	$(BIN)/podium demo

test: lint unit process faults conformance ## lint, types and every test

unit: $(STAMP)
	$(BIN)/pytest -q tests/unit tests/test_architecture.py

process: $(STAMP)
	$(BIN)/pytest -q tests/process

faults: $(STAMP)
	$(BIN)/pytest -q tests/faults

conformance: $(STAMP)
	$(BIN)/pytest -q tests/conformance

soak: $(STAMP) ## the long tests: loads with kills and outages, thousands of histories
	$(BIN)/pytest -m soak tests --timeout=3600

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## build the reference of the public names into build/docs
	$(BIN)/pdoc podium --output-directory build/docs

lock: $(STAMP) ## renew the lock files from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --group audit -o requirements-audit.lock

$(AUDITOR)/.installed: requirements-audit.lock
	$(PYTHON) -m venv $(AUDITOR)
	$(AUDITOR)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-audit.lock
	@touch $@

audit: $(AUDITOR)/.installed ## look the locked packages up in a database of known vulnerabilities
	$(AUDITOR)/bin/python .ci/audit.py $(AUDITOR)/bin/pip-audit requirements.lock requirements-audit.lock

sbom: $(STAMP) ## write build/sbom.json (CycloneDX): what podium needs at run time
	$(BIN)/python .ci/sbom.py requirements.lock build/sbom.json

clean: ## remove what the targets made
	rm -rf $(VENV) build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
