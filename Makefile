# Two commands do everything: `make demo` shows the main job, `make test` proves it. Each sets up .venv itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := $(VENV)/.peers
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-heavy soak lint bench bench-sidecar lock docs docs-site screenshots proto collector broker validator clean help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## five tenants on one AutoGen runtime; ARGS="--seconds 15 --headless --json out.json"
	@$(BIN)/tenantscope demo $(ARGS)

test: $(PEERS) ## all tests; ARGS="-k tenants"
	@$(BIN)/python -m pytest $(ARGS)

soak: $(READY) ## the long run: a million redacted messages, the fuzzer, 200 kills, a million tenants; ARGS="--size 0.1"
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --group soak
	@$(BIN)/python tests/soak.py $(ARGS)

# llama.cpp is compiled: without what makes it fast, which nobody waits for here.
test-heavy: export CMAKE_ARGS := -DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DCMAKE_CXX_FLAGS_RELEASE=-O1
test-heavy: ## tests against ChromaDB, Semantic Kernel and llama.cpp; an environment each, 1 GB and some minutes
	@for it in chromadb semantic-kernel llama-cpp; do echo "$$it ..." && \
	  $(PYTHON) -m venv $(VENV)-$$it && $(VENV)-$$it/bin/python -m pip install --quiet --upgrade "pip>=25.1" && \
	  $(VENV)-$$it/bin/python -m pip install --quiet --group $$it --editable ".[demo]" || exit 1; done
	@$(VENV)-chromadb/bin/python -m pytest tests/memories
	@$(VENV)-semantic-kernel/bin/python -m pytest tests/model_clients/test_semantic_kernel.py
	@$(VENV)-llama-cpp/bin/python -m pytest tests/model_clients/test_llama_cpp.py

# Not docs and tests: they import what only `make test` installs. Nor examples, which import each other as scripts do.
CHECKED = instrumentation sidecar tenantscope benchmarks dashboards deploy
lint: $(READY) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(CHECKED:%=--package %)
	@$(BIN)/lint-imports

bench: $(READY) ## CPU per send against bare AutoGen, interleaved
	@$(BIN)/python -m benchmarks.send_cost $(ARGS)

bench-sidecar: $(READY) ## the sidecar end to end, targets beside the figures; ARGS="--seconds 10 --workers 0 1 2"
	@$(BIN)/python -m benchmarks.sidecar_cost $(ARGS)

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-package tenantscope \
	  --custom-compile-command "make lock"
IMAGE = $(COMPILE) --no-annotate --constraint requirements.lock --output-file deploy/containers
# What runs in the sidecar's image: its extra and the one library of the rest that it needs; neither AutoGen nor an SDK.
SIDECAR = import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  print("structlog", *p["optional-dependencies"]["sidecar"], sep="\n")
lock: $(READY) ## renew requirements*.lock and those of the images from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(COMPILE) --extra demo --group dev --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra demo --group dev --group peers --group site --constraint requirements.lock --output-file requirements-test.lock pyproject.toml
	@$(IMAGE)/demo.lock --extra demo pyproject.toml
	@$(BIN)/python -c '$(SIDECAR)' | $(IMAGE)/sidecar.lock -
	@printf 'hatchling\neditables\n' | $(IMAGE)/build.lock -

docs: $(READY) ## renew the reference, what is covered, dashboards and the Collector's lists
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m docs.coverage
	@$(BIN)/python -m docs.reliability
	@$(BIN)/python -m deploy.collector.lists
	@$(BIN)/python -m dashboards.grafana.build
	@$(BIN)/python -m deploy.kubernetes.written

screenshots: $(PEERS) ## renew docs/images: a demo, its console, and Chromium with chromedriver
	@$(BIN)/python tests/console/screenshots.py

docs-site: $(PEERS) ## the documentation as a site, in build/site; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

proto: $(READY) ## renew the generated messages of sidecar/wire/watchdog.proto
	@$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. sidecar/wire/watchdog.proto

collector: ## the OpenTelemetry Collector of deploy/collector, into the cache, once (needs Go)
	@$(PYTHON) -m deploy.collector.build

broker: ## Apache Kafka as a peer of the gateway's test, into the cache, once (needs Maven)
	@$(PYTHON) -m tests.collector.broker.fetch

validator: ## what says whether deploy/ is right: kustomize, the API server's rules, Compose, BuildKit; once (needs Go)
	@$(PYTHON) -m tests.deploy.validator.build

# Made anew when what the lock says changed, and not because its date did: a branch changes dates, and peers are not
# in this lock. Whatever else pyproject.toml says, the editable install takes over.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tenantscope needs Python 3.11 or newer; make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@cmp -s requirements.lock $(VENV)/.lock || { \
	  echo "Setting up $(VENV) with $$($(PYTHON) --version) (once, about half a minute) ..." && \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && cp requirements.lock $(VENV)/.lock; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(PEERS): requirements-test.lock $(READY)
	@cmp -s requirements-test.lock $(VENV)/.test-lock || { \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements-test.lock && \
	  cp requirements-test.lock $(VENV)/.test-lock; }
	@touch $(PEERS)

clean: ## remove what the two commands made
	rm -rf $(VENV) $(VENV)-chromadb $(VENV)-semantic-kernel $(VENV)-llama-cpp build dist
