# setup: everything into .venv      demo: the whole job on generated data      lint: what CI checks
# test-fast: at each change    test: all but slow ones    test-slow: those    test-all: both
# test-gpu: what only a GPU can show
# slurm-up, slurm-down: a SLURM cluster on this machine                        test-slurm: jobs on it, for real
# docs: these pages as a site       bench: speed beside the peers     clean: remove what these commands made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUTPUT := output/demo
DATASETS := $(or $(XRAY_DATASETS),datasets/xray)
# `make setup DETECTRON2=source` builds upstream's repository instead of taking the pinned wheel.
DETECTRON2 ?= wheel
STAMP := $(VENV)/.setup-$(DETECTRON2)
SLURM_FOLDER := $(abspath $(or $(XRAY_SLURM_FOLDER),output/slurm))
CLUSTER := XRAY_SLURM_FOLDER=$(SLURM_FOLDER) $(PYTHON) slurm/test_cluster/cluster.py

.PHONY: setup demo test test-fast test-slow test-all test-gpu test-slurm slurm-up slurm-down lint docs bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml .ci/constraints.txt xray_lazy/install_detectron2.py
	@# where that was interrupted, or failed without Debian's python3-venv, it is there, but without pip
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt "setuptools<81" -e ".[dev]"
	$(BIN)/python -m xray_lazy.install_detectron2 $(if $(filter source,$(DETECTRON2)),--from-source --force)
	$(BIN)/python -m xray_lazy.env
	@touch $@

demo: setup
	@test -f $(DATASETS)/annotations/demo/val.json || $(BIN)/python tools/dataset.py demo --classes 5 --train 400 --val 60
	$(BIN)/python tools/lazy_train.py --config-file configs/xray/mask_rcnn_r18_demo.py --overwrite train.output_dir=$(OUTPUT)
	@echo
	@echo "config, log and weights   $(OUTPUT)/config.yaml  log.txt  model_best.pth"
	@echo "metrics by iteration      $(OUTPUT)/metrics.json"
	@echo "evaluation                $(OUTPUT)/evaluation/xray_demo_val/"
	@echo "images of detections      $(OUTPUT)/visualizations/contact_sheet.jpg"
	@echo "the whole story           $(OUTPUT)/report.html"
	@echo "TensorBoard               $(BIN)/tensorboard --logdir $(OUTPUT)"
	@echo "W&B run                   $(OUTPUT)/wandb/  ($(BIN)/python tools/sync.py $(OUTPUT) sends an offline one)"
	@echo "a page to drop scans on   $(BIN)/python tools/serve.py $(OUTPUT)"

# one worker more than two cores, with one thread each: tests wait for processes that they start, and threads would fight;
# compiled tests are kept, also where Python is told to write none: each worker would compile all of them anew
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -rs

test: setup
	$(PYTEST) -m "not slow"

# what starts no process and no training
test-fast: setup
	$(PYTEST) -m fast

# what make test leaves out
test-slow: setup
	$(PYTEST) -m slow

test-all: test test-slow

# on a machine with a GPU, in ten minutes; XRAY_GPU_TESTS_ON=cpu rehearses it without one
test-gpu: setup
	$(BIN)/python -m pytest -m gpu -rs

slurm-up:
	@$(CLUSTER) up

slurm-down:
	@$(CLUSTER) down

# one after the other: each job has processes of its own; where no cluster comes up the tests are skipped, and say why
test-slurm: setup
	-@$(CLUSTER) up
	SLURM_CONF=$(SLURM_FOLDER)/slurm.conf OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm -rs tests/cluster

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo "output/site/index.html"

bench: setup
	$(BIN)/python -m benchmarks.run

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/basedpyright --pythonpath $(BIN)/python

# what a person has put into datasets/ or output/ stays
clean: slurm-down
	rm -rf output/slurm output/site
	rm -rf $(VENV) $(OUTPUT) output/benchmarks.json .pytest_cache .ruff_cache .hypothesis dist build
	rm -rf $(DATASETS)/annotations/demo $(DATASETS)/images/demo
