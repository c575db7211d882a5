# Each target does its set-up itself; the stamp keeps it from being done twice.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := shm core adapters nexus_link bridges/mt5
# More than cores: most tests wait for other processes most of the time.
WORKERS ?= 5
# A seed that is given is used; else each run of `make torture` draws another.
SEED ?= $(shell date +%s)
override SEED := $(SEED)
QUICK := $(addprefix tests/,test_imports.py core/config core/engine core/instruments core/journal core/messages core/risk \
	adapters/formats adapters/paper)

.PHONY: demo quick test torture lint types coverage simulate bench bridges lock clean

demo: $(STAMP)
	$(BIN)/nexus-gateway demo

# Everything that guards a landing. The types are checked beside the tests, most of which wait.
test: $(STAMP) lint
	$(MAKE) --no-print-directory -j 2 types coverage

# The locked versions and nothing else: a release that is published today changes no result here.
$(STAMP): pyproject.toml .ci/requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Under the name by which users import it: the editable install's import hook is invisible to type checkers. Links and
# caches stay, so that only what has changed is checked again.
types: $(STAMP)
	rm -rf build/types && mkdir -p build/types/nexus_gateway/bridges
	for folder in $(PACKAGES); do ln -sfn $(CURDIR)/$$folder build/types/nexus_gateway/$$folder; done
	MYPYPATH=build/types $(BIN)/mypy -p nexus_gateway
	MYPYPATH=build/types $(BIN)/mypy -p nexus_gateway.shm -p nexus_gateway.core --platform win32 --cache-dir .mypy_cache/win32

# A process that a test kills leaves no figures, or broken ones: `coverage_parts` says which, and that the rest is whole.
coverage: export NEXUS_TEST_PIDS := $(CURDIR)/build/test_pids
coverage: $(STAMP)
	mkdir -p build && rm -f $(NEXUS_TEST_PIDS)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal -m "not torture" --durations=45
	$(BIN)/python -m tests.support.coverage_parts
	$(BIN)/coverage report

# What needs no process, no connection and no waiting; a test that does so all the same fails here.
quick: $(STAMP)
	NEXUS_TEST_QUICK=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not processes and not torture" --durations=5 $(QUICK)

# The long forms, one after the other: hundreds of kills, thousands of examples and seeds. Leave the machine to them.
# A seed of the simulation is about 100 orders: SEEDS=30000 are 3,000,000.
SEEDS ?= 10000
torture: $(STAMP)
	@echo "seed $(SEED); the same again: make torture SEED=$(SEED)"
	NEXUS_TEST_SEED=$(SEED) $(BIN)/pytest -m torture --timeout 3600 --hypothesis-seed=$(SEED) --durations=20
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(SEED)

# The order engine with its journal and risk checks against faulty platforms; every seed repeats exactly.
simulate: $(STAMP)
	$(BIN)/python -m tests.simulation --seeds 1000

# The machine decides the figures: nothing else should run meanwhile, and docs/benchmarks.md says how to read them.
bench: $(STAMP)
	$(BIN)/python -m benchmarks
	$(BIN)/pytest benchmarks/bench_micro.py --benchmark-columns=min,median,stddev,rounds --benchmark-sort=name

# Renews .ci/requirements.lock (with hashes, for make and CI) and constraints.txt (for users): the newest versions within
# pyproject.toml's bounds, the same for Windows and Linux and each Python. Run it when a dependency there changes.
# `make lock UPGRADE=` keeps the versions that still fit.
UPGRADE ?= --upgrade
COMPILE := build/lock/bin/uv --quiet pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	--fork-strategy fewest --custom-compile-command "make lock"

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) $(UPGRADE) --generate-hashes --output-file .ci/requirements.lock
	$(COMPILE) --no-annotate --constraints .ci/requirements.lock --output-file constraints.txt

# Each Python bridge as one file, dist/<bridge>-<version>.pyz; the same sources give the same bytes.
bridges:
	$(PYTHON) bridges/build.py dist

clean:
	rm -rf .venv build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache
