# Needs only Python >= 3.11 with pip, and make. Everything else is installed into .venv, pinned by hash.
PYTHON ?= python3
BIN := .venv/bin
# The caller's pip installs into .venv, because distributions often ship venv without ensurepip.
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check

.PHONY: help demo ui test lint format protobuf bench accuracy plots screenshots lab lab-test clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("fabricwise needs Python 3.11 or newer, $(PYTHON) is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv (once, about a minute)"
	@$(PYTHON) -m venv --without-pip --clear .venv
	@$(INSTALL) --require-hashes -r constraints.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.ready ## watch GPU pods being placed by link quality
	@$(BIN)/python hatch_build.py --optional
	@$(BIN)/fabricwise demo

ui: .venv/.ready ## build the web UI (needs Node.js 20.19 or newer with npm)
	@$(BIN)/python hatch_build.py

test: .venv/.ready ## run all tests
	@$(BIN)/python -m tests

lint: .venv/.ready ## check style, types, layers, declared dependencies; the web UI's sources where Node.js is there
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi .
	@$(BIN)/python hatch_build.py --lint

format: .venv/.ready ## format the code and fix lint errors
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

protobuf: .venv/.ready ## regenerate the modules of the kubelet's messages
	@$(BIN)/python -m tests.agent.protobuf_modules

bench: .venv/.ready ## measure speed, as ratios within one run (options: BENCH='--only verbs --json run.json')
	@$(BIN)/python -m tests.bench $(BENCH)

accuracy: .venv/.ready ## compare the model with NCCL's search, measurements and NVIDIA's policy
	@$(BIN)/python -m tests.accuracy

plots: .venv/.ready ## regenerate the plots and the demo's picture in docs/pictures
	@$(BIN)/python -m tests.accuracy.plots docs/pictures
	@$(BIN)/python -m extender.cli.commands.services.demo docs/pictures/demo.svg
	@$(BIN)/python -m tests.top.picture docs/pictures

screenshots: ui ## take the screenshots of the web UI in docs/pictures (needs chromium)
	@$(BIN)/python -m tests.ui.screenshots docs/pictures

lab: .venv/.ready ## a real control plane and GPU node on a mock of NVML (root; docs/lab.md)
	@$(BIN)/python -m tests.lab $(LAB)

lab-test: .venv/.ready ## the tests that run in the lab
	@$(BIN)/python -m tests.lab test

clean: ## remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: constraints
constraints: .venv/.ready ## update the pinned dependencies (needs uv on PATH)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --upgrade --extra dev pyproject.toml --output-file constraints.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  pyproject.toml --constraint constraints.txt --output-file constraints-runtime.txt
