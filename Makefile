# Needs only Python >= 3.11 with pip, and make. Everything else goes into .venv, pinned by hash.
PYTHON ?= python3
BIN := .venv/bin
# The caller's own pip fills .venv: distributions often ship venv without the ensurepip it would need.
INSTALL = $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check

.PHONY: help demo test lint format protobuf bench accuracy plots clean
help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("fabricwise needs Python 3.11 or newer, $(PYTHON) is %d.%d" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "setting up .venv (once, about a minute)"
	@$(PYTHON) -m venv --without-pip --clear .venv
	@$(INSTALL) --require-hashes -r constraints.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.ready ## watch GPU pods being placed by link quality
	@$(BIN)/fabricwise demo

test: .venv/.ready ## run all tests
	@$(BIN)/python -m pytest

lint: .venv/.ready ## style, types, layers, declared dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry --no-ansi .

format: .venv/.ready ## put the code in shape
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

protobuf: .venv/.ready ## the generated modules of the kubelet's messages anew
	@$(BIN)/python -m tests.agent.protobuf_modules

bench: .venv/.ready ## speed, as ratios within one run
	@$(BIN)/python -m tests.bench

accuracy: .venv/.ready ## the model against NCCL's search, measurements and NVIDIA's policy
	@$(BIN)/python -m tests.accuracy

plots: .venv/.ready ## the plots and the demo's picture in docs/ anew
	@$(BIN)/python -m tests.accuracy.plots docs
	@$(BIN)/python -m extender.cli.commands.demo docs/demo.svg

clean: ## remove .venv and caches
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: constraints
constraints: .venv/.ready ## pin dependencies anew (needs uv on PATH)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --upgrade --extra dev pyproject.toml --output-file constraints.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  pyproject.toml --constraint constraints.txt --output-file constraints-runtime.txt
