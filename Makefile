# The project's commands. A fresh clone needs Python 3.11 or newer, make and node 20; everything else is installed into
# .venv, client/typescript/node_modules and .build, and nothing has to be activated. CI runs these same targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# PyTorch's index of a build, for example the CPU's, where the default one is not wanted.
TORCH_INDEX_URL ?=
TORCH := torch==2.13.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
TS := client/typescript
GOOGLEAPIS := .build/googleapis/google/rpc/status.proto
PYTHON_READY := .venv/.ready
NODE_READY := $(TS)/node_modules/.ready
SITE_READY := .venv/.site-ready
CHECKS := lint types imports client-check proto-check buf ts-check
# pytest's own options: make test PYTEST_ARGS="-k cache -x"
PYTEST_ARGS ?=

##@ Start here

help: ## Say what there is.
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(PYTHON_READY) $(NODE_READY) ## Install what the other targets need; done once, they ask for it by themselves.

demo: $(PYTHON_READY) ## Start a server, score the sample pairs (or PAIRS=FILE), say what they teach, and stop.
	$(BIN)/python -m demo $(if $(PAIRS),--pairs '$(PAIRS)')

loop: $(PYTHON_READY) ## From pairs to a trained policy: audit, decide, plan, train twice, compare (PAIRS=FILE, ARGS='--decide').
	$(BIN)/python -m demo.loop $(if $(PAIRS),--pairs '$(PAIRS)') $(ARGS)

test: ## Check and test everything, as CI does.
	@scripts/phases.sh setup model check pytest ts-test

serve: $(PYTHON_READY) ## Serve a model: make serve ARGS='--model PATH --sae PATH'
	$(BIN)/assay serve $(ARGS)

##@ Checks

# The type checker takes a minute on one core; everything else goes beside it.
check: $(PYTHON_READY) $(NODE_READY) ## Everything that needs no running: the static half of `make test`.
	@$(MAKE) -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) types check-others

check-others: $(PYTHON_READY) $(NODE_READY) ## The static checks but for the types.
	@for one in $(filter-out types,$(CHECKS)); do $(MAKE) "$$one"; done

lint: $(PYTHON_READY) ## Lint and format-check Python, shell and the Dockerfile.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run scripts/*.sh
	$(BIN)/hadolint Dockerfile

types: $(PYTHON_READY) ## Check the types, strictly.
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(PYTHON_READY) ## Hold the direction of imports.
	$(BIN)/lint-imports

format: $(PYTHON_READY) $(NODE_READY) ## Format Python, TypeScript and protos in place.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/buf format --write proto
	cd $(TS) && npm run --silent format

##@ Tests

pytest: $(PYTHON_READY) ## Run the Python tests on two cores (PYTEST_ARGS=...).
	scripts/pytest.sh $(PYTEST_ARGS)

ts-test: $(NODE_READY) ## Run the TypeScript client's tests.
	cd $(TS) && npm run --silent test

##@ The contract

proto: $(PYTHON_READY) $(NODE_READY) ## Generate the Python and TypeScript stubs.
	$(BIN)/python scripts/generate_stubs.py python
	$(BIN)/python scripts/generate_stubs.py typescript

proto-check: $(PYTHON_READY) $(NODE_READY) ## Fail if the committed stubs are not those of proto/.
	$(BIN)/python scripts/generate_stubs.py python --check
	$(BIN)/python scripts/generate_stubs.py typescript --check

buf: $(PYTHON_READY) $(GOOGLEAPIS) ## Lint the contract, and hold it against the last release's.
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code proto
	$(BIN)/buf breaking proto --against proto/baseline.binpb --exclude-imports

# Done when a version is released, and never to make `make buf` pass: what a release promised stays.
proto-baseline: $(PYTHON_READY) $(GOOGLEAPIS) ## Release step: make today's contract the one that may not break.
	$(BIN)/buf build proto --exclude-source-info -o proto/baseline.binpb

$(GOOGLEAPIS): scripts/generate_stubs.py | $(PYTHON_READY)
	$(BIN)/python scripts/generate_stubs.py imports
	@touch $@

##@ The Python client

client: $(PYTHON_READY) ## Generate the blocking client from the asyncio client.
	$(BIN)/python scripts/generate_blocking.py

client-check: $(PYTHON_READY) ## Fail if the committed blocking client is not that of the asyncio client.
	$(BIN)/python scripts/generate_blocking.py --check

##@ The TypeScript client

ts: $(NODE_READY) ## Build the client and its example into client/typescript/dist.
	cd $(TS) && npm run --silent build

ts-check: $(NODE_READY) ## Check its types and format.
	cd $(TS) && npm run --silent check

##@ Demo assets and figures

model: $(PYTHON_READY) ## Fetch and convert the demo model (once).
	$(BIN)/python -m demo.model

sae: $(PYTHON_READY) ## Train the demo's sparse autoencoder again (hours on two cores).
	$(BIN)/python -m demo.train_sae $(ARGS)

bench: $(PYTHON_READY) model ## Measure, and write benchmarks/results.
	$(BIN)/python -m benchmarks $(ARGS)

bench-gpu: $(PYTHON_READY) ## The same comparison on a GPU, in the shapes of an 8B model.
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-training: $(PYTHON_READY) model ## Train real policies with and without plans: make bench-training ARGS='--pairs FILE --minutes 60'
	$(BIN)/python -m benchmarks.training $(ARGS)

# With --subject none by python -m benchmarks.readability.naming (conditional, calibration) no model reads: minutes instead of hours.
bench-readability: $(PYTHON_READY) model ## Is what a dataset teaches among the first things told? ARGS='--pairs FILE'
	$(BIN)/python -m benchmarks.readability $(ARGS)

docs-tables: $(PYTHON_READY) ## Write the tables of README and docs from benchmarks/results.
	$(BIN)/python -m benchmarks.tables

##@ Documentation

docs-reference: $(PYTHON_READY) ## Write docs/configuration.md, docs/descriptors.md and docs/architecture.svg.
	$(BIN)/python scripts/configuration.py
	$(BIN)/python scripts/descriptors.py
	$(BIN)/python scripts/architecture.py

site: $(SITE_READY) ## Build the documentation, with the API reference, into .build/site.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

##@ Housekeeping

clean: ## Remove what was built and cached; the environments stay.
	rm -rf .build dist $(TS)/dist .pytest_cache .ruff_cache .hypothesis .coverage .import_linter_cache

distclean: clean ## Remove the environments too.
	rm -rf .venv $(TS)/node_modules

# torch first and alone, so that its build is chosen here and not as somebody's dependency.
$(PYTHON_READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'Installing $(TORCH) and the project into .venv: once, some minutes.'
	@$(PIP) $(if $(TORCH_INDEX_URL),--index-url '$(TORCH_INDEX_URL)') '$(TORCH)'
	@$(PIP) --editable '.[cli,server,dev]'
	@touch $@

$(SITE_READY): $(PYTHON_READY)
	@$(PIP) --editable '.[docs]'
	@touch $@

$(NODE_READY): $(TS)/package.json $(TS)/package-lock.json
	@echo 'Installing the TypeScript client'"'"'s packages.'
	@cd $(TS) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: help setup demo loop test serve check check-others lint types imports format pytest ts-test proto proto-check buf proto-baseline \
  client client-check ts ts-check model sae bench bench-gpu bench-training bench-readability docs-tables docs-reference site clean distclean
