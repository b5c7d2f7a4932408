# demo, test, chaos, check, bench, deb, system: each installs what it needs.
PYTHON ?= python3
VENV   := .venv
OLDEST := .venv-oldest
BENCH  := .venv-bench
# What users get: Debian's own Python, where it can make environments.
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, venv, sys; print(sys.executable)' 2>/dev/null || echo $(PYTHON))
# A worker a core: the tests start real processes, and watch how fast they are.
WORKERS ?= 2
PYTEST  := -n $(WORKERS) --dist worksteal

.PHONY: demo test test-newest test-oldest chaos system check bench deb clean

demo: $(VENV)/.ok
	@$(VENV)/bin/nanoexec demo

check: $(VENV)/.ok
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: test-newest test-oldest

test-newest: $(VENV)/.ok
	tests/support/debian-packages
	$(VENV)/bin/pytest $(PYTEST)

# The node side on the oldest libraries that are supported: Debian 12's own, where it has them.
test-oldest: $(OLDEST)/.ok
	tests/support/debian-packages
	$(OLDEST)/bin/pytest $(PYTEST) -m node tests/unit tests/contract tests/integration

# Faults in thousands, for hours if they are let: NANOEXEC_CHAOS_SEED=NUMBER replays one campaign. Those that hold the
# hub to its times come one after the other: two at once would measure each other.
TIMED := $(foreach name,network neighbours overload soak storms,tests/chaos/test_$(name).py)
chaos: $(VENV)/.ok
	failed=0; export NANOEXEC_CHAOS=long; \
	$(VENV)/bin/pytest tests/chaos $(PYTEST) $(TIMED:%=--ignore=%) || failed=1; \
	$(VENV)/bin/pytest $(TIMED) || failed=1; \
	exit $$failed

# On booted Debian machines, from the packages: needs root, and says so. No workers: each would boot its own machines.
system: $(VENV)/.ok
	tests/system/debian-packages
	$(VENV)/bin/python -m tests.system.image
	NANOEXEC_SYSTEM=1 $(VENV)/bin/pytest tests/system

# The Debian packages for this machine's suite, into dist/.
deb:
	packaging/build

# Measured on what users get: the package and its dependencies, without the tools of development.
bench: $(BENCH)/.ok
	$(BENCH)/bin/python -m benchmarks

$(VENV)/.ok: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(VENV)/bin/pip install --quiet --editable ".[hub]" --group dev
	@touch $@

$(OLDEST)/.ok: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(OLDEST)/bin/pip install --quiet --editable . --group test --constraint tests/oldest.txt
	@touch $@

$(BENCH)/.ok: pyproject.toml $(wildcard nanoexec/*.py nanoexec/*/*.py nanoexec/*/*/*.py integrations/*.toml)
	$(BENCH_PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/pip install --quiet --upgrade "pip>=25.1"
	$(BENCH)/bin/pip install --quiet --force-reinstall --no-deps . && $(BENCH)/bin/pip install --quiet ".[hub]"
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(BENCH)
