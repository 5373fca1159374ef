# Every target sets up .venv by itself; nothing else on the machine is touched.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python

.PHONY: demo test fuzz lint bench results clean

demo: $(VENV)/installed
	$(RUN) tools/demo.py

test: $(VENV)/installed
	$(RUN) -m pytest -n 2 --dist loadfile

# Damaged files and odd values: some minutes of new inputs for every reader; `make test` runs a short part.
fuzz: $(VENV)/installed
	PARALLAX_FUZZ=4000 $(RUN) -m pytest tests/test_fuzz.py

lint: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

bench: $(VENV)/installed
	$(RUN) -m benchmarks.loader
	$(RUN) -m benchmarks.step
	$(RUN) -m benchmarks.export
	$(RUN) -m benchmarks.prepare_cityscapes --frames 30
	$(RUN) -m benchmarks.sift_matches

# Hours: trains every table of docs/results.md again, and compares with the committed numbers.
results: $(VENV)/installed
	$(RUN) -m benchmarks.results --table all --check

# The interpreter must be one we support; the file marks a finished installation of these requirements.
$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
