# Each target can be the first command in a fresh clone: it installs all that it needs into VENV.
# PYTHON and LOCK count only when VENV is made. To change them, run `make clean` first.
# EXTRAS=ray adds an extra of pyproject.toml, at any time.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11; do \
    $$python -c 'import ensurepip, venv' 2>/dev/null && echo $$python && exit; done; echo python3)
VENV ?= .venv
LOCK ?=
EXTRAS ?=
BIN = $(VENV)/bin

# The demo's model: a folder, which is filled on first use, or the name of a model on the hub.
SMOLLM2 = .cache/models/SmolLM2-135M-Instruct
MODEL ?= $(SMOLLM2)

# The tests run on all cores. They keep compiled Python files, even where the environment forbids it:
# compiling torch and the libraries around it takes 10 s, in every process that imports them.
WORKERS ?= auto
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
DENO = DENO_DIR=.cache/deno DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
TESTS = $(PYTEST) --numprocesses=$(WORKERS) --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help install model demo image image-push image-test docs package test test-all test-slow test-page test-demo test-faults bench check sbom audit lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(VENV)/.installed $(EXTRAS:%=$(VENV)/.installed-%) ## install atp into .venv, in the locked versions (EXTRAS=ray: with Ray)

model: $(VENV)/.installed ## download and convert the demo's model, once
	$(BIN)/python examples/smollm2/get_model.py $(SMOLLM2)

demo: $(if $(filter $(SMOLLM2),$(MODEL)),model,$(VENV)/.installed) ## score the example on a small real model and show the strongest features
	$(BIN)/atp run examples/smollm2/feedback.json --chat-template --model=$(MODEL) \
	    --sae=examples/smollm2/sae --exact=flagged --out=results/demo --report --log-format=console

image: ## build the container image `atp` (LOCK=requirements-cpu.lock: without CUDA; EXTRAS=ray: `atp:ray`, with Ray)
	EXTRAS=$(EXTRAS) tools/image/build.sh $(PYTHON) atp$(EXTRAS:%=:%) $(LOCK)

image-push: ## push the image `atp` to a registry, tagged with its version (IMAGE=registry.example/owner/atp)
	tools/image/push.sh $(IMAGE) $(EXTRAS)

image-test: $(VENV)/.installed-dev ## build the image without CUDA, with Ray, and use it as a user would
	tools/image/test.sh $(BIN)

test: $(VENV)/.installed-dev ## run the first tier of the tests (under 3 minutes)
	$(TESTS)

test-all: $(VENV)/.installed-dev ## run both tiers of the tests (under 12 minutes)
	$(TESTS) -m "not full and not demo and not image and not page"

test-slow: $(VENV)/.installed-dev ## run the second tier alone: the tests marked slow
	$(TESTS) -m slow

test-page: $(VENV)/.installed-dev ## open the report in Chromium and use it as a reader would
	tools/chromium.sh
	$(PYTEST) -m page

test-demo: $(VENV)/.installed-dev model ## compare the demo, and Gemma 3 from a GGUF file, with the plain procedure; run the example's notebook
	PYTHONPATH=benchmarks $(BIN)/python -c 'import gemma3; gemma3.main()'
	OMP_NUM_THREADS=$$(nproc) $(PYTEST) -m demo -rP

test-faults: $(VENV)/.installed-dev model ## kill runs, fill the disk, send signals, break the model, at every moment (an hour)
	$(PYTEST) tests/faults tests/test_fuzz.py -m "not demo and not image" --full

bench: $(VENV)/.installed model ## measure speed and memory on the demo's model, on a CPU (25 minutes)
	$(BIN)/atp bench examples/smollm2/feedback.json --chat-template --device=cpu --rounds=5 \
	    --model=$(SMOLLM2) --sae=examples/smollm2/sae --out=results/bench
	for script in longer_responses layers loading scale; do \
	    $(BIN)/python benchmarks/$$script.py || exit 1; done

check: $(VENV)/.installed-dev ## format, lint, types, imports, JavaScript, scripts, Dockerfile, workflow, lock files
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry --no-ansi atp
	$(DENO) fmt --check
	$(DENO) lint
	$(DENO) check --no-remote --no-npm atp/report/page
	$(BIN)/shellcheck --external-sources entrypoint.sh .ci/run tools/*.sh tools/image/*.sh deploy/slurm/*
	$(BIN)/hadolint Dockerfile
	$(BIN)/zizmor --quiet --offline --no-progress .github
	$(BIN)/python tools/check_locks.py

docs: $(VENV)/.installed-dev ## build the site of the documents, build/site/docs/index.html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs \
	    --doctree-dir .cache/doctrees . build/site

package: $(VENV)/.installed-dev ## build the wheel and the sdist into dist/, and try the wheel in a clean environment
	tools/package.sh $(BIN)

sbom: $(VENV)/.installed-dev ## write dist/sbom.json: the Python packages of the image (CycloneDX)
	mkdir -p dist
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements requirements.lock \
	    --pyproject pyproject.toml --output-reproducible --output-format JSON \
	    --output-file dist/sbom.json

audit: $(VENV)/.installed-dev ## look the locked versions up in a database of vulnerabilities
	$(BIN)/python tools/audit.py requirements.lock

lock: $(VENV)/.installed-dev ## write the lock files from pyproject.toml (ARGS=--upgrade: the newest versions)
	tools/lock.sh $(BIN) $(ARGS)

clean: ## remove .venv and all caches, the demo's model included; keep results
	rm -rf .venv .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml requirements.lock requirements-cpu.lock requirements-build.lock
	tools/install.sh $(VENV) $(PYTHON) $(LOCK)
	touch $@

# What a lock adds to it.
$(VENV)/.installed-dev: $(VENV)/.installed-ray
$(VENV)/.installed-%: $(VENV)/.installed requirements-%.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
	    --require-hashes --requirement requirements-$*.lock
	touch $@
