# Everything here needs python3 (3.10 or newer) and make; the rest is installed into .venv on first use.
# Choose the interpreter with:  make test PYTHON=python3.12
# Pass options on with ARGS:    make demo ARGS="--seconds 10"   make test ARGS="-k gateway"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN    := $(VENV)/bin
INPUTS := setup.py pyproject.toml pynetwork/_version.py
PIP    := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install

export PIP_ROOT_USER_ACTION = ignore

# The project holds folders of some of these names, and pip must not run twice at once in one environment.
.PHONY: help demo test bench check coverage hooks clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

demo: $(VENV)/.run ## a gateway with real sensors and logs, a controller, a swarm: the main job on this machine
	@$(BIN)/pynetwork demo $(ARGS)

test: $(VENV)/.test ## all tests
	@$(BIN)/python -m pytest -q $(ARGS)

bench: $(VENV)/.bench ## every workload beside its raw limit and the peers, as tables
	@$(BIN)/python -m tools.bench $(ARGS)

check: $(VENV)/.dev ## lint, format, types, layers and the project's own checks
	@echo "ruff check"   && $(BIN)/ruff check --quiet --output-format=concise .
	@echo "ruff format"  && $(BIN)/ruff format --quiet --check --diff .
	@echo "mypy"         && $(BIN)/mypy --no-error-summary
	@echo "lint-imports" && { found=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$found"; exit 1; }; }
	@echo "tools.checks" && $(BIN)/python -m tools.checks

coverage: $(VENV)/.dev ## branch coverage of handshakes by its own tests: fails under 100 %
	@$(BIN)/coverage run --source=handshakes -m pytest -q tests/handshakes $(ARGS)
	@$(BIN)/coverage report --fail-under=100

hooks: $(VENV)/.dev ## run the checks before each commit
	@$(BIN)/pre-commit install

clean: ## remove everything that was made here
	@rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: one, filled as far as the target needs ---------------------------------------------------

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is not Python 3.10 or newer; choose one with: make PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.made $(INPUTS)
	@echo "installing pynetwork" && $(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.made $(INPUTS)
	@echo "installing pynetwork[test]" && $(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/.made $(INPUTS)
	@echo "installing pynetwork[bench]" && $(PIP) --editable '.[bench,compress]' || $(PIP) --editable .
	@test -d $(VENV)/peers/pynetwork-2.4 \
		|| $(PIP) --no-deps --target $(VENV)/peers/pynetwork-2.4 'pynetwork==2.4' \
		|| echo "not every peer can be installed here; the table names those that are missing" >&2
	@touch $@ $(VENV)/.run

$(VENV)/.dev: $(VENV)/.made $(INPUTS)
	@echo "installing pynetwork[dev,test]" && $(PIP) --editable '.[dev,test]'
	@touch $@ $(VENV)/.run $(VENV)/.test
