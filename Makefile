# fleetgate: `make run`, `make test`, `make check`. Needs Python >= 3.11 and package indexes, nothing else.
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests, each with its PostgreSQL and its Valkey; on two cores, since one always waits.
TEST_PROCESSES ?= 3
.DEFAULT_GOAL := help

help:  ## show what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fleetgate needs Python >= 3.11: set PYTHON=python3.12 or the like" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (python3-venv)" >&2; rm -rf .venv; exit 1; }

.venv/dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing what development needs into .venv (a minute the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing what fleetgate needs into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

# The client that runs the Postman collection; where there is no npm its test says that it is left out.
.venv/newman/node_modules: tests/newman/package-lock.json | $(BIN)/python
	@mkdir -p $(@D) && cp tests/newman/package.json tests/newman/package-lock.json $(@D)
	@! command -v npm > /dev/null || npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent

.venv/assets: package-lock.json requirements-node.lock gateway/portal/vendor.py | $(BIN)/python
	@echo "installing the portal's scripts"
	@command -v npm > /dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-node.lock
	@$(BIN)/python -m gateway.portal.vendor
	@touch $@

run: .venv/runtime .venv/assets  ## run the whole stack with a demo tenant
	@$(BIN)/fleetgate up --demo

# Compiled once: else each process, and each edge and worker that a test starts, would compile all modules anew.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/dev .venv/assets .venv/newman/node_modules  ## run the tests on real embedded servers
	$(BIN)/python -m pytest -n $(TEST_PROCESSES)

mutants: .venv/dev .venv/assets  ## break each line that keeps a promise, and see its test fail (some minutes)
	$(BIN)/python -m tests.mutants

check: .venv/dev  ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev  ## measure: ours beside the limits and the peers (about 25 minutes)
	$(BIN)/python -m bench

load: .venv/dev  ## play 50 devices' whole lives for 30 s on the stack that `make run` runs
	$(BIN)/locust -f bench/locustfile.py --headless -u 50 -r 10 -t 30s

lock:  ## resolve the dependencies anew
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --extra embedded --extra s3 --extra archive pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --extra embedded --extra s3 --extra archive --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:  ## remove the environment and the caches, not the data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.PHONY: help run test mutants check bench load lock clean
