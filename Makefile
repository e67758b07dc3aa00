# Every target sets up its own .venv on a bare clone and reinstalls when pyproject.toml or constraints.txt change.
#
#   make demo        phantoms -> training -> evaluation -> prediction -> report, in demo/
#   make test        the tests                     make lint    style, types, import layers
#   make notebooks   execute notebooks/            make docs    the documentation, warnings are errors
#   make bench       time what users wait for      make clean   remove what the targets made (not .venv)
#   make system      Debian packages that some tests use (a PACS, DICOM checkers, a browser), where apt-get may install
#
# Variables: PYTHON (3.11 or newer), VENV, PIP_ARGS and pip's own PIP_* (for an index or a wheel folder of yours),
# PYTEST_ARGS (such as -k or a path; by default one worker per core), TORCH=any to take whichever build of torch pip prefers.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?= -n auto --dist loadfile
TORCH ?= auto

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_PIN := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test system lint format notebooks docs bench clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed-demo
	$(BIN)/medmtl demo -o demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

system:
	@sh tests/system.sh

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.installed-notebooks
	$(BIN)/jupyter execute --timeout=600 notebooks/*.ipynb

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)/.installed-demo
	set -e; for script in benchmarks/start.py benchmarks/demo.py; do $(BIN)/python "$$script"; done

clean:
	rm -rf demo docs/_build docs/reference/generated dist build
	rm -rf .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks docs medmtl pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------- .venv

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "medmtl needs Python 3.11 or newer, $(PYTHON) is older; name another: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e ".[$*]"
	@touch $@

# Without a GPU nobody should download CUDA. pip says what it would install: if that is a CUDA build, PyTorch's CPU
# build is taken instead, by way of uv, which knows where PyTorch keeps it.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@set -e; \
	if [ "$(TORCH)" != any ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	    $(PIP) install --quiet $(PIP_ARGS) 'pip>=23.2'; \
	    echo "no GPU here: looking for a CPU build of $(TORCH_PIN)"; \
	    plan="$$($(PIP) install --dry-run $(PIP_ARGS) -c constraints.txt '$(TORCH_PIN)')"; \
	    case "$$plan" in *"Would install"*nvidia-*) \
	        $(PIP) install --quiet $(PIP_ARGS) uv; \
	        $(BIN)/uv pip install --python $(BIN)/python --torch-backend cpu -c constraints.txt '$(TORCH_PIN)' || { \
	            echo "no CPU build of $(TORCH_PIN) was found, and without a GPU none with CUDA is downloaded;"; \
	            echo "point pip at PyTorch's CPU index (CONTRIBUTING.md, Setup), or say TORCH=any"; exit 2; };; \
	    esac; \
	fi
	@touch $@
