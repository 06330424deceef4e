# Each target does its own set-up: a fresh clone needs Python 3.11 or newer, make, and nothing else.

PYTHON ?= python3
DATA ?= synthetic
VAL ?=
RECIPE ?= best
RUN ?= runs/$(RECIPE)
MODEL ?= models/car-vae/3

BIN := .venv/bin
GPU := $(shell nvidia-smi --list-gpus 2>/dev/null)
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Both ONNX Runtime packages write the same files: the CPU's goes first, and what it took along is laid again.
GPU_RUNTIME = $(BIN)/python -m pip uninstall --quiet --yes onnxruntime \
	&& $(INSTALL) --force-reinstall --no-deps onnxruntime-gpu \
	&& $(INSTALL) 'onnxruntime-gpu[cuda,cudnn]'

.PHONY: help serve test check format train docs wheel images sbom lock bench bench-mosec bench-gpu gpu-day \
	bench-training cost clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

serve: .venv/serve  ## serve the shipped model on http://127.0.0.1:8000
	$(BIN)/python -m app

test: check  ## lint, types and all tests
	$(BIN)/python -m pytest --quiet --cov --cov-report=term:skip-covered

check: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/dev  ## bring the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

train: .venv/dev  ## train the best recipe: make train DATA=folder (without it: drawn cars)
	$(BIN)/python -m model_training train --recipe $(RECIPE) --data $(DATA) --out $(RUN)

docs: .venv/dev  ## remake the tables of settings and the figure of codes; with VAL=folder the model's other figures too
	$(BIN)/python -m tests.deployment.settings_reference
	$(BIN)/python docs/figures.py $(if $(VAL),--val $(VAL))

wheel: .venv/dev  ## dist/*.whl: the program with the model that is served
	$(BIN)/python -m build --wheel

images: .venv/dev  ## build the images that serve, label them and write their sizes down: make images IMAGES="cpu gpu train"
	$(BIN)/python docker/images.py $(IMAGES)

sbom: .venv/dev  ## dist/*.cdx.json: what the images that serve are made of, in CycloneDX
	$(BIN)/python docker/sbom.py

lock: .venv/dev  ## pin what the images install, within constraints.txt
	$(BIN)/python docker/lock.py

bench: .venv/dev  ## this service beside other model servers, two hours (needs wrk)
	$(BIN)/python -m tests.performance.bench

bench-gpu: .venv/dev  ## what a CUDA card does with the model
	$(BIN)/python -m tests.performance.gpu

bench-mosec: .venv/dev  ## this service beside mosec with equal graphs, ten minutes (needs wrk)
	$(BIN)/python -m tests.performance.bench.beside_mosec --model-dir $(MODEL) --document docs/performance.md

gpu-day: .venv/dev  ## ten minutes with a card: train, fine-tune, export, prove, serve: make gpu-day DATA=cars.npz (docs/cuda.md)
	$(BIN)/python -m tests.performance.gpu_day --data $(DATA)

bench-training: .venv/dev  ## training beside a plain PyTorch loop and pythae's trainer
	$(BIN)/python -m tests.performance.training

cost: .venv/dev  ## what each step of a request costs at best (needs wrk)
	$(BIN)/python -m tests.performance.cost_breakdown

clean:  ## remove what the targets made, but for training runs
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serve: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	$(if $(GPU),$(GPU_RUNTIME))
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[otel,train,dev]'
	$(if $(GPU),$(GPU_RUNTIME))
	@touch $@ .venv/serve
