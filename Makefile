# One entry for everything. `make demo` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AUDITOR := .cache/auditor
PEER := .cache/bench-peer
RESULTS := benchmarks/results
ROUNDS ?= 3
ONLY ?=
TASKS ?= 1000000

.DEFAULT_GOAL := help
.PHONY: help demo test unit guard guard-budgets process faults conformance soak bench bench-growth bench-soak \
  bench-breakdown bench-embedded bench-redelivery bench-record bench-pages lint format docs lock audit sbom clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 17

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "podium needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## run the order workflow on the embedded server
	$(BIN)/podium demo

test: lint unit guard process faults conformance ## lint, types and every test

unit: $(STAMP)
	$(BIN)/pytest -q tests/unit tests/test_architecture.py

guard: $(STAMP) ## count what podium does for a task
	$(BIN)/pytest -q tests/guard

guard-budgets: $(STAMP) ## write what it may do from what it does now
	PYTHONPATH=tests:. $(BIN)/python -m guard.counts

process: $(STAMP)
	$(BIN)/pytest -q tests/process

faults: $(STAMP)
	$(BIN)/pytest -q tests/faults

conformance: $(STAMP)
	$(BIN)/pytest -q tests/conformance

soak: $(STAMP) ## the long tests: loads with kills and outages, thousands of histories
	$(BIN)/pytest -m soak tests --timeout=3600

# conductor-python, to measure against: in an environment of its own, because podium's has nothing of it.
$(PEER)/.installed: requirements-bench.lock
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

bench: $(STAMP) $(PEER)/.installed ## podium beside conductor-python: make bench [ROUNDS=3] [ONLY=throughput,podium]
	$(BIN)/python -m benchmarks compare --rounds $(ROUNDS) --only "$(ONLY)"

bench-growth: $(STAMP) ## what more task types, tasks at a time and bytes cost
	$(BIN)/python -m benchmarks growth

bench-soak: $(STAMP) ## a million tasks, and flat memory: make bench-soak [TASKS=1000000]
	$(BIN)/python -m benchmarks soak --tasks $(TASKS)

bench-embedded: $(STAMP) ## the embedded server: its start, and workflows a second
	$(BIN)/python -m benchmarks embedded

bench-redelivery: $(STAMP) ## how soon results are delivered that an earlier process has left on disk
	$(BIN)/python -m benchmarks redelivery

bench-breakdown: $(STAMP) ## where the time of a task goes
	$(BIN)/python -m benchmarks breakdown

bench-record: $(STAMP) $(PEER)/.installed ## measure everything anew for the pages, on a machine that does nothing else
	$(BIN)/python -m benchmarks compare --out $(RESULTS) --rounds $(ROUNDS)
	$(BIN)/python -m benchmarks growth --out $(RESULTS)
	$(BIN)/python -m benchmarks soak --out $(RESULTS) --tasks $(TASKS)
	$(BIN)/python -m benchmarks embedded --out $(RESULTS) --rounds $(ROUNDS)
	$(BIN)/python -m benchmarks redelivery --out $(RESULTS) --rounds $(ROUNDS)
	$(BIN)/python -m benchmarks breakdown --out $(RESULTS)
	$(BIN)/python -m benchmarks pages

bench-pages: $(STAMP) ## put the recorded figures into the pages
	$(BIN)/python -m benchmarks pages

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
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --group bench -o requirements-bench.lock

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
