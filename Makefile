# Every target does its own set-up: the first run makes .venv, or .venv-lite for the demonstration
# and the server, later ones find it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

LITE       := .venv-lite
LITE_BIN   := $(LITE)/bin
LITE_STAMP := $(LITE)/.installed

PYTEST := $(BIN)/python -m pytest
# Tests of servers wait for a third of their time, so one more of them than there are processors.
WORKERS ?= $(shell processors=$$(nproc); echo $$((processors < 4 ? processors + 1 : 4)))

HOST   ?= 127.0.0.1
PORT   ?= 5001
CONFIG ?= examples/embedded.yaml

# pytest keeps the test modules that it has rewritten: half of what it takes to collect them.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo bench quick test images dashboard soak fuzz ui serve check venv lite clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(LITE_STAMP)  ## Convert the bundled documents in both modes, and draw the memory (2 to 5 min)
	$(LITE_BIN)/python -m examples.demo

bench: $(STAMP)  ## Measure this build beside upstream's, installed into .venv-peer (ARGS=--quick)
	$(BIN)/python -m benchmarks $(ARGS)

quick: $(STAMP)  ## The unit tests (a minute and a half on 2 cores)
	$(PYTEST) -n $(WORKERS) -p no:schemathesis --dist worksteal --timeout 300 tests/unit tests/test_architecture.py

test: $(STAMP)  ## All tests
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder

images: $(STAMP)  ## Build the images lite and cpu, and run each (as root; docs/deployment.md)
	$(BIN)/python -m pytest --images -s tests/images

dashboard: $(STAMP)  ## Ask the dashboard's queries of a real Prometheus (Debian: prometheus)
	$(PYTEST) tests/integration/test_dashboard.py

soak: $(STAMP)  ## 300 tasks with faults, 1,000 small ones; prints memory and ends (15 min)
	$(BIN)/python -m pytest --soak -s tests/soak

fuzz: $(STAMP)  ## Made-up requests to the whole API with all checks of schemathesis (10 min)
	$(BIN)/python -m pytest --fuzz 600 -s tests/soak/test_fuzz.py

ui:  ## Build the page from its sources (for contributors; needs node 20 or newer)
	cd docling_serve/ui/source && npm ci --ignore-scripts --no-audit --no-fund && node build.mjs

serve: $(LITE_STAMP)  ## The server in the foreground, subprocess mode on (HOST=, PORT=, CONFIG=)
	exec env DOCLING_SERVE_USE_SUBPROCESS=$${DOCLING_SERVE_USE_SUBPROCESS:-true} \
		DOCLING_SERVE_CONFIG_FILE=$(CONFIG) \
		$(LITE_BIN)/docling-serve run --host $(HOST) --port $(PORT)

check: $(STAMP)  ## Format, lint, types, then the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p docling_serve -p examples.demo -p benchmarks
	$(MAKE) --no-print-directory test

venv: $(STAMP)  ## The virtual environment .venv: the full install, and what the tests need

lite: $(LITE_STAMP)  ## The virtual environment .venv-lite: the lite install (docs/lite-install.md)

clean:  ## Remove .venv, .venv-lite, .venv-peer, caches, and what the demo wrote
	rm -rf $(VENV) $(LITE) .venv-peer demo-output dist build .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed (make PYTHON=python3.11 ...)" >&2; exit 1; }
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

$(STAMP): pyproject.toml constraints.txt
	$(call make_venv,$(VENV))
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

LITE_SET := --quiet --no-deps -r requirements-lite.txt -e .

# uv takes a quarter of pip's time; pip finds mirrors that only its own configuration names.
$(LITE_STAMP): pyproject.toml constraints.txt requirements-lite.txt
	$(call make_venv,$(LITE))
	$(LITE_BIN)/python -m pip install --quiet -c constraints.txt matplotlib uv
	$(LITE_BIN)/python -m uv pip install --python $(LITE_BIN)/python $(LITE_SET) \
		|| $(LITE_BIN)/python -m pip install $(LITE_SET)
	@touch $@
