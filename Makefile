# One place for the commands people and CI run. `make setup` is implied by the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint benchmark gpu clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/deploy run recipes/demo.yaml

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Cores are often shared: threads that sleep while they wait hold nobody up.
test: export OMP_WAIT_POLICY ?= PASSIVE
# Three files at a time, so that two cores have work while measurements wait for each other; no test depends on how long
# something takes, and what the tests of a file share is made once.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_pruners -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest --ignore=tests/test_pruners -n 3 --dist loadfile --no-loadscope-reorder

benchmark: $(STAMP)
	$(BIN)/python -m pytest tests -m slow

gpu: $(STAMP)
	$(BIN)/python -m pytest tests -m gpu

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
