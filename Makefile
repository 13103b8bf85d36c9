# Everything is made inside this folder; `make clean` removes it again. Python 3.11 or newer is all that is needed.
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .constraints.txt
# T narrows the tests: make test T=tests/server
T ?=
# The whole suite runs in this many processes, a file at a time; most of it waits for daemons.
WORKERS ?= 3

.PHONY: run test quick check fmt gen bench sdk2 sdknode clean

run: .venv/run.stamp  ## start the daemon in the foreground
	@$(BIN)/oproxy serve --fetch

test: .venv/dev.stamp sdk2 sdknode  ## the whole test suite
	@$(BIN)/python -m pytest $(or $(T),-n $(WORKERS) --dist loadfile)

quick: .venv/dev.stamp  ## the tests of the pure layers, in seconds
	@$(BIN)/python -m pytest -q -n 2 tests/policy tests/translate tests/test_framing.py tests/test_layers.py

check: .venv/dev.stamp  ## lint, types, test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

fmt: .venv/dev.stamp  ## format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

gen: .venv/dev.stamp  ## write man/ and completions/ anew
	@$(BIN)/python -m ollama_proxy.cli.gen

bench: .venv/dev.stamp  ## what oproxy costs, beside a bare proxy
	@$(BIN)/python -m tests.bench

# The official SDK's 2.x line, for the same end-to-end suite.
sdk2: .venv-openai2/stamp

# openai-node, for the tests that call every method; without npm they are left out.
sdknode:
	@command -v npm >/dev/null || exit 0; test -d .node-openai/node_modules/openai || \
	    npm install --silent --no-audit --no-fund --prefix .node-openai openai@6.49.0 >/dev/null || \
	    echo 'openai-node could not be installed; its tests are left out' >&2

clean:  ## remove what was made here
	rm -rf .venv .venv-openai2 .node-openai build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find ollama_proxy tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 none; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	    echo 'oproxy needs Python 3.11 or newer. Where it has another name: make PYTHON=/path/to/python …' >&2; exit 1; \
	fi; \
	$$python -m venv .venv || { rm -rf .venv; echo "$$python has no venv module (Debian: apt install python3-venv)" >&2; exit 1; }

# The build backend comes from the same pins as everything else, so a clone installs tomorrow what it installs today.
.venv/run.stamp: pyproject.toml .constraints.txt | .venv/bin/python
	@echo 'Installing into .venv …'
	@$(INSTALL) hatchling editables
	@$(INSTALL) --no-build-isolation -e '.[embedded]'
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@echo 'Installing what the tests need …'
	@$(INSTALL) --no-build-isolation -e '.[embedded,postgres,redis,dev]'
	@touch $@

.venv-openai2/stamp: .constraints-openai2.txt | .venv/bin/python
	@$(BIN)/python -m venv .venv-openai2
	@.venv-openai2/bin/python -m pip install --quiet --disable-pip-version-check -r .constraints-openai2.txt
	@touch $@
