# demo, test, check, bench: each installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check bench clean

demo: $(VENV)/.ok
	$(BIN)/nanoexec demo

check: $(VENV)/.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.ok
	$(BIN)/pytest

bench: $(VENV)/.ok
	$(BIN)/python -m benchmarks

$(VENV)/.ok: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --editable ".[hub]" --group dev
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest
