# Ten targets at most; `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
PEER   := .venv-peer
NODE   := tests/javascript/node_modules
FUZZ   := .venv-fuzz
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help serve check test chaos soak lint lock bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort | expand -t 10

$(BIN)/coe: requirements.lock requirements-build.lock pyproject.toml hatch_build.py $(wildcard classifiers/_kernel*.[ch])
	@echo "installing into $(VENV) (once; every package is checked against its hash)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements-build.lock
	@$(PIP) -r requirements.lock
	@HATCH_BUILD_NO_HOOKS=true \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# The hook by itself, because pip would hide its warning. It needs a directory to name, and writes nothing there.
	@$(BIN)/python -m hatchling build -t wheel:editable --hooks-only -d $(VENV)
	@touch $@

$(VENV)/.dev: $(BIN)/coe requirements-dev.lock
	@echo "installing what the tests need"
	@$(PIP) -r requirements-dev.lock
	@touch $@

serve: $(BIN)/coe ## start the router on 127.0.0.1:8000 (simulated vendors when no key is set)
	@$(BIN)/coe serve --simulate-if-empty

check: $(BIN)/coe ## check providers.yaml and say what is active
	@$(BIN)/coe check

$(PEER)/.done: requirements-peer.lock
	@echo "installing the third-party server that one test runs as upstream, into an environment of its own"
	@rm -f $@
	@{ $(PYTHON) -m venv $(PEER) && $(PEER)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements-peer.lock && touch $@; } || \
	  { test -z "$$CI" && echo "it can't be installed here: its test will be skipped, and says so (with CI set this fails)"; }

# Of the system's packages only what is missing, and only where that may be installed: each test says what it lacks.
$(VENV)/.system: $(VENV)/.dev
	@missing=""; \
	  command -v npm >/dev/null || missing="nodejs npm"; \
	  command -v strace >/dev/null || missing="$$missing strace"; \
	  ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$$missing libfaketime"; \
	  command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	  test -x /usr/sbin/clickhouse-server || command -v clickhouse-server >/dev/null || \
	    missing="$$missing clickhouse-server"; \
	  if test -n "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	    echo "installing what tests need of the system: $$missing"; \
	    apt-get -qq update || true; \
	    for one in $$missing; do DEBIAN_FRONTEND=noninteractive \
	        apt-get -qq install --yes --no-install-recommends $$one >/dev/null || true; done; fi
	@touch $@

$(FUZZ)/.done: requirements-fuzz.lock
	@echo "installing what makes up hostile requests and bytes, into an environment of its own"
	@rm -f $@
	@{ $(PYTHON) -m venv $(FUZZ) && $(FUZZ)/bin/python -m pip install --quiet --disable-pip-version-check \
	    --require-hashes -r requirements-fuzz.lock && touch $@; } || \
	  { test -z "$$CI" && echo "it can't be installed here: its test will be skipped, and says so (with CI set this fails)"; }

$(NODE)/.done: tests/javascript/package-lock.json $(VENV)/.system
	@echo "installing the official JavaScript SDK, which some tests ask with"
	@rm -f $@
	@{ (cd $(NODE)/.. && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) && touch $@; } || \
	  { test -z "$$CI" && echo "it can't be installed here: its tests will be skipped, and say so (with CI set this fails)"; }

test: $(VENV)/.dev $(PEER)/.done $(NODE)/.done $(FUZZ)/.done ## lint, type-check and run every test
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile

chaos: $(VENV)/.dev $(NODE)/.done ## every fault in great number, some minutes (docs/reliability.md has what came of it)
	@$(BIN)/python tests/chaos.py
	@$(BIN)/python tests/chaos_sdks.py

soak: $(VENV)/.dev ## an hour of faults: is it steady, do the books balance? (docs/reliability.md has what came of it)
	@$(BIN)/python tests/soak.py

lint: $(VENV)/.dev ## ruff, mypy, import floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

lock: ## resolve the lock files again (needs uv); a release must be a week old
	uv pip compile pyproject.toml $(LOCK) -o requirements.lock
	uv pip compile --group build $(LOCK) -o requirements-build.lock
	uv pip compile pyproject.toml --extra train --group dev $(LOCK) -o requirements-dev.lock
	uv pip compile --group peer $(LOCK) -o requirements-peer.lock
	uv pip compile pyproject.toml --group fuzz -c requirements.lock $(LOCK) -o requirements-fuzz.lock
LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --exclude-newer "1 week"

bench: $(VENV)/.dev $(PEER)/.done ## other gateways beside the router, then reading a prompt (prints ratios, asserts nothing)
	@$(BIN)/python bench/side_by_side.py
	@$(BIN)/python bench/classify.py

clean: ## remove the environment and caches, never data
	rm -rf $(VENV) $(PEER) $(NODE) $(FUZZ) .mypy_cache .ruff_cache .pytest_cache dist build classifiers/_kernel*.so classifiers/_kernel*.pyd
