# make book     build the site            make serve      show it in your browser
# make test     check everything          make notebooks  write the .ipynb twins of the chapters' text
# make chapter N=05 NAME=inference_statistics   begin a chapter;   make chapter-05   run it and its tests
# make budgets  words, minutes and lines of each chapter, and what it still needs
# make repository URL=https://github.com/who/what    write the public address everywhere (URL=none: there is none)
# make rehearse the first steps of each notebook with Colab's versions
# make clean    remove what was built     make bench      time the layers (benchmarks/)
#
# make test-slow      the thorough tiers: all kernel cases, sampled mutants of the package
# make test-triton    the kernels on another version of Triton, without a GPU
# make test-gpu       check and time the kernels on a GPU
#
# Each command sets itself up on a fresh machine: Python 3.11 or newer is all it needs.

PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
# On few and busy cores a second thread costs more than it brings.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
.PHONY: book test test-slow test-gpu test-triton serve notebooks chapter budgets repository rehearse bench clean

# Sets up the virtual environment once, and again when a list of packages changes.
.venv/ready: requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or newer is needed; %s is %d.%d. If you have a newer one, name it: make PYTHON=python3.13" % (sys.executable, v[0], v[1]))'
	echo "Setting up .venv: Python packages, about 1.5 GB (more where pip brings PyTorch for CUDA), some minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt -e '.[dev]'
	touch .venv/ready
	echo "Set up in $$SECONDS s"

book: .venv/ready
	@echo "Building the site: runs each chapter, sets its formulas, checks its links"
	$(BIN)/jupyter-book build . -W -n --keep-going
	$(BIN)/python tools/check_site.py _build/html
	echo "Built in $$SECONDS s. Open _build/html/index.html, or run: make serve"

test: .venv/ready
	@echo "Testing the package, the exercises and every notebook"
	$(BIN)/ruff check --quiet .
	$(BIN)/python tools/bones.py
	$(BIN)/python -m pytest
	echo "Tested in $$SECONDS s"

test-slow: .venv/ready
	@echo "Testing what make test leaves out: the thorough tiers"
	$(BIN)/python -m pytest -m slow tests
	echo "Tested in $$SECONDS s"

# On a machine whose own Python has torch for CUDA and pytest: make test-gpu GPU_PYTHON=python3
ifdef GPU_PYTHON
test-gpu:
else
GPU_PYTHON := $(BIN)/python
test-gpu: .venv/ready
endif
	@export PYTHONPATH=.
	$(GPU_PYTHON) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("torch sees no GPU here, so there is nothing to test")'
	echo "Testing the kernels on the GPU"
	$(GPU_PYTHON) -m pytest -o addopts="-ra -q --durations=10" tests/nn/test_kernels.py tests/nn/test_kernels_compiled.py \
		tests/nn/test_lines.py tests/nn/test_mirror.py tests/nn/test_nn_functional.py tests/nn/test_nn_modules.py tests/nn/test_sync.py
	if command -v compute-sanitizer; then
		for tool in memcheck racecheck; do
			compute-sanitizer --tool $$tool --error-exitcode 1 $(GPU_PYTHON) tools/run_kernels.py
		done
	else
		echo "compute-sanitizer is not on the PATH: memory accesses and races were not checked"
	fi
	$(GPU_PYTHON) benchmarks/gpu.py
	echo "Tested and timed in $$SECONDS s"

TRITON ?= 3.6.0
test-triton: .venv/ready
	@echo "Testing the kernels on Triton $(TRITON)"
	test -d .venv/triton-$(TRITON) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target .venv/triton-$(TRITON) triton==$(TRITON) 'numpy<2.4'  # whose arrays of one entry are still numbers
	export PYTHONPATH=.venv/triton-$(TRITON)
	$(BIN)/python -c 'import triton; assert triton.__version__ == "$(TRITON)", triton.__version__'
	$(BIN)/python -m pytest -m '' --dist load -W "ignore:Conversion of an array:DeprecationWarning" tests/nn/test_kernels.py
	$(BIN)/python -m pytest -m '' --dist loadgroup tests/nn/test_kernels_compiled.py
	echo "Tested in $$SECONDS s"

serve: .venv/ready
	@test -f _build/html/index.html || $(MAKE) book
	echo "The course is at http://127.0.0.1:$(PORT)/ (Ctrl-C ends it)"
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT) ||
		{ echo "No server on port $(PORT). If it is taken, try another: make serve PORT=8001"; exit 1; }

# First the reading time of each chapter, since its twin repeats it, and the README's list of chapters.
notebooks: .venv/ready
	@$(BIN)/python tools/collect.py
	$(BIN)/python tools/repository.py

chapter: .venv/ready
	@$(BIN)/python tools/new_chapter.py "$(N)" "$(NAME)"
	$(BIN)/python tools/repository.py

# One chapter: make chapter-05 writes its twin, runs it and its tests.
chapter-%: notebooks
	@$(BIN)/python -m pytest -o addopts="--nbval-lax --nbval-current-env --nbval-cell-timeout=120 -q" \
		notebooks/$*_*.ipynb tests/chapters tests/exercises -k "ch$* or $*_"

budgets: .venv/ready
	@$(BIN)/python tools/bones.py

# The public address, everywhere: make repository URL=https://github.com/who/what (URL=none: there is none).
repository: .venv/ready
	@$(BIN)/python tools/repository.py $(URL)

# The first steps of each notebook, as in Colab: with its versions, and without the repository beside it.
rehearse: .venv/ready
	@$(BIN)/python tools/rehearse.py

bench: .venv/ready
	@$(BIN)/python benchmarks/numpy_layers.py
	$(BIN)/python benchmarks/torch_layers.py

clean:
	rm -rf _build .venv .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
