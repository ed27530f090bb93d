# Every target installs what it needs. PYTHON is the interpreter that makes .venv (3.10 or newer).
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# TORCH=cpu takes PyTorch's CPU build. An environment that has it serves the targets without it, too.
TORCH :=
STAMP := $(VENV)/.installed$(if $(TORCH),-$(TORCH))
DEMO := demo
RUN := runs/demo
DATA ?=
ARGS ?=
# One more than the cores: some tests wait for a disk, a server or a clock.
WORKERS := from rrid_edge.machine.processor import usable_cores; print(min(8, usable_cores() + 1))

.PHONY: help install check format test docs train demo bench tables man wheel clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Make .venv with all tools (once; 7 GB, mostly PyTorch; TORCH=cpu: 3 GB)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("rrid-edge needs Python 3.10 or newer; set PYTHON=python3.11, for example" if sys.version_info < (3, 10) else 0)'
	@test -z '$(filter-out cpu,$(TORCH))' || { echo "TORCH=$(TORCH): expected cpu, or leave it out" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),@$(BIN)/python tools/install_cpu_torch.py)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

check: install ## Check lint, format, lengths, types and imports, as CI does
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/check_lengths.py
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The processes of the tests share compiled modules, also where the environment says otherwise.
test: install ## Run all tests on all cores, no GPU; one file: ARGS="-n 0 FILE"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $$($(BIN)/python -c '$(WORKERS)') --dist worksteal $(ARGS)

docs: install ## Build the documentation into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

train: install ## Train on demo data, or on yours: DATA=FOLDER ARGS="--epochs 80"
ifneq ($(findstring --resume,$(ARGS)),)
	$(BIN)/rrid-edge train $(if $(DATA),--dataset-path $(DATA)) $(ARGS)
else ifeq ($(DATA),)
	$(BIN)/rrid-edge demo-data $(DEMO)
	$(BIN)/rrid-edge train --preset demo --dataset-path $(DEMO) --exp-dir $(RUN) $(ARGS)
else
	$(BIN)/rrid-edge train --dataset-path $(DATA) $(ARGS)
endif

demo: install ## Train, export, check, index and match demo data
	$(BIN)/rrid-edge demo-data $(DEMO)
	$(BIN)/rrid-edge train --preset demo --dataset-path $(DEMO) --exp-dir $(RUN) --overwrite
	$(BIN)/rrid-edge evaluate $(RUN)/best.safetensors --dataset $(DEMO)
	$(BIN)/rrid-edge export $(RUN)/best.safetensors --output $(DEMO)/models --crops $(DEMO)/gallery
	$(BIN)/rrid-edge index $(DEMO)/gallery --model $(DEMO)/models/rrid.onnx --rebuild
	$(BIN)/rrid-edge parity $(DEMO)/models/rrid.onnx --reference $(RUN)/best.safetensors --images $(DEMO)/gallery
	$(BIN)/rrid-edge match $(DEMO)/query $(DEMO)/gallery --top-k 8 --sheet $(DEMO)/sheet.png --report $(DEMO)/report.html
	@echo; cat $(DEMO)/about.txt
	@echo 'This model knows drawn people only. Next, on photographs (docs/adopt.md, docs/training.md):'
	@echo '  adopt a public network   $(BIN)/rrid-edge adopt osnet_x1_0.onnx --preset torchreid --crops gallery/'
	@echo '  rank your own crops      $(BIN)/rrid-edge match query.jpg gallery/ --report answer.html'
	@echo '  or train on your data    make train DATA=path/to/market1501 ARGS="--exp-dir runs/market"'

bench: install ## Measure speed and accuracy of the demo model on this machine
	@test -e $(DEMO)/models/rrid.onnx || $(MAKE) demo
	$(BIN)/rrid-edge bench --model $(DEMO)/models/rrid.onnx --against published --checkpoint $(RUN)/best.safetensors $(ARGS)

tables: install ## Measure the tables of BENCHMARKS.md on the demo; some: ARGS="fused search"
	@test -e $(DEMO)/models/rrid.onnx || $(MAKE) demo
	$(BIN)/python benchmarks/tables.py --model $(DEMO)/models/rrid.onnx --checkpoint $(RUN)/best.safetensors --data $(DEMO) --crops $(DEMO)/gallery $(ARGS)

man: install ## Write the man pages of all commands into man/
	$(BIN)/rrid-edge help --man man

wheel: install ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove caches, builds, demo data and runs; keep .venv and models/
	rm -rf build dist man site $(DEMO) $(RUN) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
