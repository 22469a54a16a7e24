# Two commands: `make up` runs the example, `make test` checks everything. Nothing else is needed.
# `make quick` checks what needs no Kafka, in under two minutes.
# `make bench` measures kpipe beside others and writes docs/benchmarks.md; shorter with EVENTS=20000 REPEATS=1.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-bench
JOBS ?= 3

.PHONY: up test quick check chaos bench advisories clean

# `kpipe` is on the PATH of what it starts and suggests; Ctrl-C is the usual end of it, not an error of make's.
up: $(STAMP)
	@echo "In another terminal: source $(BIN)/activate, then kpipe send order"
	@$(BIN)/kpipe up || { code=$$?; test $$code -eq 130 || exit $$code; }

# Tests wait for processes and Kafka more than they compute: three jobs, each with a Kafka of its own. They start thousands
# of processes: where Python may not keep what it compiled (PYTHONDONTWRITEBYTECODE), each would compile kpipe anew.
test: check
	@$(BIN)/python -m compileall -q orchestrator
	@$(BIN)/python scripts/timed.py "make test" $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

# The inner loop: pure logic, files and pages. No Kafka is started.
quick: check
	@$(BIN)/python -m compileall -q orchestrator
	@$(BIN)/python scripts/timed.py "make quick" $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile \
		-m "not kafka" tests/unit tests/property tests/contract tests/docs

# Kills, pauses and scales workers and brokers under load, and counts what became of every event. All optional:
# make chaos SEED=7 SECONDS=600 BROKERS=3 GUARANTEE=at-least-once RATE=2000
chaos: $(STAMP)
	$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(BROKERS),--brokers $(BROKERS)) $(if $(GUARANTEE),--guarantee $(GUARANTEE)) $(if $(RATE),--rate $(RATE))

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Lower bounds with known holes: `make advisories FROM=FILE` (OSV records, or what pip-audit wrote), or by pip-audit itself.
advisories: $(STAMP)
	@$(BIN)/python scripts/advisories.py $(FROM)

bench: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m benchmarks

# Those that kpipe is measured beside have a place of their own: Quix Streams wants an older client than kpipe has.
$(PEERS)/.installed: pyproject.toml
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "Installing what kpipe is compared with into $(PEERS) ..."
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kpipe needs Python 3.11 or later; set PYTHON=python3.x" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing kpipe and its tools into $(VENV): about a minute, once ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
