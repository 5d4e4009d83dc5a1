# Every target works on a machine that has only Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help venv demo up test lint fix bench torture fuzz audit docs lock

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 8

venv: $(STAMP) ## make .venv with the locked versions

$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $(STAMP)

demo: venv ## one event of every kind through the whole router, then the ledger's equation
	$(BIN)/event-router demo

up: venv ## keep it running: web, worker, Flower, sandbox
	$(BIN)/event-router up

test: venv ## unit, contract and system tests, two files at a time: most of the time they wait
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: venv ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: venv ## what the linters can mend themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv ## accept path beside Flask + task.delay(), one run, ratios; then how fast explain reads
	$(BIN)/python benchmarks/accept.py
	$(BIN)/python benchmarks/explain.py

torture: venv ## kill, cut, fill and slow a whole router, then check its promise; SECONDS=1800 for long, SEED=7 again
	$(BIN)/python -m torture $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(EVENTS),--events $(EVENTS)) $(if $(SUBJECTS),--subjects $(SUBJECTS))

fuzz: venv ## damaged input to each door, or to DOOR=webhooks|signed|tracking|lines|firehose|health|queue|parsers, for SECONDS=30
	$(BIN)/python benchmarks/fuzz.py --seconds $(or $(SECONDS),30) $(if $(DOOR),--door $(DOOR)) $(if $(SEED),--seed $(SEED))

audit: venv ## known vulnerabilities of the locked versions
	$(PYTHON) .ci/audit.py

docs: venv ## write the generated pages again
	$(BIN)/python docs/generate.py

lock: ## pin every version again (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	  --extra flower --group build -o requirements/runtime.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet \
	  --extra flower --extra embedded --group build --group test --group lint --group dev -c requirements/runtime.txt -o requirements/dev.txt
