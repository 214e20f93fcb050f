# Set-up steps leave a stamp in .venv, so that they run once.  pip, not another installer: it alone takes local wheels.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup test test-all throughput lint format clean

setup: $(VENV)/.installed

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml $(wildcard setup.py jpegdeep_torch/jpeg/csrc/*)
	$(BIN)/python -m pip install --quiet --editable ".[eval,jpeg2dct,serve,dev]"
	touch $@

# The quick part: everything but what is marked slow.
test: setup
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: setup
	$(BIN)/python -m pytest $(ARGS)

throughput: setup
	$(BIN)/python -m eval.throughput --backend torch $(ARGS)

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m mypy

format: setup
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf $(VENV) build *.egg-info
