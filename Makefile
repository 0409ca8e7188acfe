# `make run` and `make test` are all a fresh machine needs: Python 3.11, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INPUT ?= digits
K ?= 10
OUTPUT ?= out/$(INPUT)

.PHONY: run test test-slow lint format clean

run: $(VENV)/.installed
	$(BIN)/kmeans-job run --input $(INPUT) --k $(K) --output $(OUTPUT) --overwrite

test: $(VENV)/.installed-test
	$(BIN)/pytest -m "not slow" -n 2 --dist worksteal

# Minutes each: many kills, all of MNIST in every format, other engines, a real browser.
test-slow: $(VENV)/.installed-test
	$(BIN)/pytest -m slow -n 2 --dist worksteal --durations 15

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: setup.py constraints.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info out
