# Every target sets up .venv by itself; nothing else on the machine is touched.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python

# The container (docs/long-runs.md): make docker-start-interactive DATA=/mnt/data GPUS=
IMAGE  ?= parallax
DATA   ?= $(CURDIR)/data
RUNS   ?= $(CURDIR)/runs
GPUS   ?= all
DOCKER := docker run --rm --ipc=host $(if $(GPUS),--gpus $(GPUS)) \
	-v "$(DATA)":/data -v "$(RUNS)":/parallax/runs \
	-e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY -e AWS_SESSION_TOKEN -e AWS_DEFAULT_REGION \
	-e AWS_ENDPOINT_URL -e WANDB_API_KEY

.PHONY: demo try test fuzz lint bench results site clean docker-build docker-start-interactive docker-run

demo: $(VENV)/installed
	$(RUN) tools/demo.py

# Depth of an image of your own, by the model that comes with the checkout: make try PHOTO=street.jpg
try: $(VENV)/installed
	$(RUN) test_simple.py --image_path "$(PHOTO)" --model_name synthetic_small --output .

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
	$(RUN) -m benchmarks.measured_depth
	$(RUN) -m benchmarks.step
	$(RUN) -m benchmarks.export
	$(RUN) -m benchmarks.prepare_cityscapes --frames 30
	$(RUN) -m benchmarks.sift_matches

# Hours: trains every table of docs/results.md again, and compares with the committed numbers.
results: $(VENV)/installed
	$(RUN) -m benchmarks.results --table all --check

# The documentation as a site: build/site/html/index.html; a dead link is an error.
site: $(VENV)/installed
	$(RUN) tools/site.py

# The interpreter must be one we support; the file marks a finished installation of these requirements.
$(VENV)/installed: requirements.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e ".[dev]"
	touch $@

docker-build:
	docker build --build-arg UID=$(shell id -u) --build-arg GID=$(shell id -g) -t $(IMAGE) .

docker-start-interactive:
	mkdir -p "$(DATA)" "$(RUNS)"
	$(DOCKER) -it $(IMAGE) bash

# make docker-run COMMAND="python run.py --config ..."
docker-run:
	mkdir -p "$(DATA)" "$(RUNS)"
	$(DOCKER) $(IMAGE) $(COMMAND)

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
