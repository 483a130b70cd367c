# Needs only Python 3.11 or newer: it makes its environment in $(VENV).
#   make demo                      train a small GPT with Muon and with AdamW: 3 minutes
#   make test | test-fast          every test | the first case of each fast test
#   make check | lint | cover      lint and test | format, lint, types | tests with coverage
#   make programs | accelerator    compile for a TPU and a GPU | measure the one that is here
#   make quality | mutation        hard inputs and planted faults | random mutants, for hours
#   make docs | outputs | serve    build the site | write what snippets print | show the site
#   make release-check             build wheel and sdist in dist/, check them, run the wheel
#   make audit | clean             known vulnerabilities | remove the environment and build/
#   PYTHON=python3.13 VENV=.venv313 CONSTRAINTS=file COUNT=150

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
CONSTRAINTS ?= /dev/null
COUNT ?= 150
COMPILERS ?= .venv-programs
ACCELERATOR ?= $(shell if command -v nvidia-smi > /dev/null; then echo cuda; \
	elif ls /dev/accel* /dev/vfio/* > /dev/null 2>&1; then echo tpu; fi)
RUN := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest -n 2 --dist worksteal
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test test-fast programs accelerator quality mutation cover lint check
.PHONY: release-check audit clean docs outputs serve

define WELCOME
make demo trains one small GPT twice on this machine: with AdamW and with Muon.
It prints both losses and draws both curves. It takes 2 to 3 minutes on two quiet CPU cores:
  1 minute to install into $(VENV): jax, optax, flax, matplotlib, rich, tyro and what they need,
    190 MB to download. A second run has them. Only $(VENV) and build/ are written.
  1.5 minutes to compile and train.

endef

demo:  ## train the byte GPT with Muon and with AdamW
	$(info $(WELCOME))
	@$(MAKE) --no-print-directory $(VENV)/.demo
	@$(RUN) examples/demo.py

test: $(VENV)/.test  ## run every test, doctest and snippet
	$(PYTEST)

test-fast: $(VENV)/.test  ## the first case of each fast test: a minute
	$(PYTEST) -m "not slow and not hypothesis" --first-case

programs:  ## updates compiled for a TPU and a GPU that are not there; with compilers of its own
	@$(MAKE) --no-print-directory $(COMPILERS)/.programs VENV=$(COMPILERS)
	$(COMPILERS)/bin/python -m pytest tests/programs
	$(COMPILERS)/bin/python -m benchmarks programs --smoke

accelerator:  ## measure this GPU or TPU: under 8 minutes
	@test -n "$(ACCELERATOR)" || { echo "no GPU or TPU found; set ACCELERATOR=cuda or tpu"; exit 1; }
	@$(MAKE) --no-print-directory $(VENV)/.test $(VENV)/.$(ACCELERATOR)
	PYTHON=$(abspath $(RUN)) bash benchmarks/accelerator.sh

quality: $(VENV)/.test  ## the hard inputs, the planted faults and a short soak
	$(PYTEST) tests/quality

mutation: $(VENV)/.mutation  ## COUNT random mutants of the last commit: hours
	rm -rf build/mutation && mkdir -p build/mutation
	git archive HEAD | tar -x -C build/mutation
	cd build/mutation && export PATH="$(abspath $(VENV))/bin:$$PATH" && \
		cosmic-ray init tests/quality/mutation.toml mutants.sqlite && \
		cr-filter-operators mutants.sqlite tests/quality/mutation.toml && \
		python tests/quality/sample.py mutants.sqlite $(COUNT) && \
		cosmic-ray exec tests/quality/mutation.toml mutants.sqlite && \
		cr-report --no-show-output mutants.sqlite && cr-rate --estimate mutants.sqlite

cover: $(VENV)/.cover  ## every test, and the lines that none of them runs
	$(PYTEST) --cov

lint: $(VENV)/.dev  ## format, lint and types
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m pyright --pythonpath $(RUN)

check: lint test  ## what a commit must pass

docs: $(VENV)/.docs  ## the site in site/: snippets, links, reference and formulas are checked
	$(PYTEST) tests/test_docs.py
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

outputs: $(VENV)/.test  ## run the snippets of README and docs, and write what they print
	$(RUN) -m pytest -q tests/test_docs.py -k prints_what --write-outputs

serve: $(VENV)/.docs  ## the site on this machine, made again with each change
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs serve

audit: $(VENV)/.audit  ## known vulnerabilities of installed packages
	$(RUN) -m pip_audit --skip-editable

release-check: $(VENV)/.release  ## build the wheel and the sdist, check both, run the wheel
	rm -rf dist
	$(RUN) -m build --outdir dist
	$(RUN) -m twine check --strict dist/*
	$(RUN) -m tests.release dist

$(VENV)/bin/python:
	@echo "Making a Python environment in $(VENV) ..."
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }

# Shows how far it is. Modules are compiled when they are first imported: most never are.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	@$(RUN) examples/install.py --no-compile --constraint $(CONSTRAINTS) --editable '.[demo]'
	@touch $@

$(VENV)/.%: $(VENV)/bin/python pyproject.toml
	$(PIP) --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build dist site
