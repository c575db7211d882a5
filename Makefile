# `make demo` and `make test` do all their set-up themselves; the stamp keeps them from doing it twice.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint types coverage simulate bench bridges lock clean

demo: $(STAMP)
	$(BIN)/nexus-gateway demo

test: lint types coverage

# The locked versions and nothing else: a release that is published today changes no result here.
$(STAMP): pyproject.toml .ci/requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# On an installed copy, as users have it: the editable install's import hook is invisible to type checkers.
types: $(STAMP)
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p nexus_gateway
	MYPYPATH=build/types $(BIN)/mypy -p nexus_gateway.shm -p nexus_gateway.core --platform win32 --cache-dir .mypy_cache/win32

coverage: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist worksteal -m "not alone" --durations=45
	$(BIN)/coverage run -m pytest -m alone --durations=15
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

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
