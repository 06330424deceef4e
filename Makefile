# Each target does its own set-up: a fresh clone needs Python 3.11 or newer, make, and nothing else.

PYTHON ?= python3
DATA ?= synthetic
VAL ?=
RECIPE ?= best
RUN ?= runs/$(RECIPE)
MODEL ?= models/car-vae/2

BIN := .venv/bin
RUNTIME := $(shell nvidia-smi --list-gpus >/dev/null 2>&1 && echo gpu || echo cpu)
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help serve test check format train docs lock bench bench-mosec bench-gpu gpu-day bench-training cost clean

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

docs: .venv/dev  ## remake the tables of settings; with DATA=folder VAL=folder the model's figures too
	$(BIN)/python -m tests.deployment.settings_reference
	$(if $(VAL),$(BIN)/python docs/figures.py --data $(DATA) --val $(VAL))

lock: .venv/dev  ## pin what the images install, within constraints.txt
	$(BIN)/python docker/lock.py

bench: .venv/dev  ## this service beside other model servers, two hours (needs wrk)
	$(BIN)/python -m tests.performance.bench

bench-gpu: .venv/dev  ## what a CUDA card does with the model
	$(BIN)/python -m tests.performance.gpu

bench-mosec: .venv/dev  ## this service beside mosec with equal graphs, ten minutes (needs wrk)
	$(BIN)/python -m tests.performance.bench.beside_mosec --model-dir $(MODEL) --document docs/performance.md

gpu-day: .venv/dev  ## ten minutes with a card: train, export, prove, serve: make gpu-day DATA=cars.npz (docs/cuda.md)
	$(BIN)/python -m tests.performance.gpu_day --data $(DATA)

bench-training: .venv/dev  ## training beside a plain PyTorch loop and pythae's trainer
	$(BIN)/python -m tests.performance.training

cost: .venv/dev  ## what each step of a request costs at best (needs wrk)
	$(BIN)/python -m tests.performance.cost_breakdown

clean:  ## remove what the targets made, but for training runs
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serve: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[$(RUNTIME)]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[$(RUNTIME),train,dev]'
	@touch $@ .venv/serve
