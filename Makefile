# Needs Python 3.11 or newer and nothing else: the environment is made here, under $(VENV).
#   make demo | test | test-fast | cover | lint | check | audit | clean
#   PYTHON=python3.13 VENV=.venv313 CONSTRAINTS=file

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CONSTRAINTS ?= /dev/null
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest -n 2 --dist worksteal
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test test-fast cover lint check audit clean

demo: $(VENV)/.examples  ## train the byte GPT, Muon beside AdamW
	$(RUN) examples/train_gpt.py

test: $(VENV)/.test  ## run every test, doctest and snippet
	$(PYTEST)

test-fast: $(VENV)/.test  ## the first case of every test that is not slow: a minute
	$(PYTEST) -m "not slow and not hypothesis" --first-case

cover: $(VENV)/.cover  ## every test, and what no test of this process runs
	$(PYTEST) --cov

lint: $(VENV)/.dev  ## format, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright --pythonpath $(RUN)

check: lint test  ## what a commit has to pass

audit: $(VENV)/.audit  ## known vulnerabilities of what is installed
	$(RUN) -m pip_audit --skip-editable

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/.%: $(VENV)/bin/python pyproject.toml
	$(PIP) --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build
