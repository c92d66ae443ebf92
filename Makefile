# `make demo` and `make test` need Python 3.11 or newer, git and make; everything else is set up in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Two tests at a time, each with half of the machine's threads.
PARALLEL = -n 2 --dist worksteal

RAY_VENV ?= .venv-ray

.PHONY: demo test test-slow test-gpu test-ray fuzz bench-guard check clean

demo: $(VENV)/.installed
	$(BIN)/frcnn demo

# Distributed training starts processes of its own, so its tests come alone, after the others.
test: $(VENV)/.installed
	$(BIN)/pytest $(PARALLEL) -m "not slow and not gpu and not ray" --ignore tests/test_distributed.py
	$(BIN)/pytest -m "not slow and not gpu and not ray" tests/test_distributed.py

# Every base model is exported; the slowest families learn an image by heart.
test-slow: $(VENV)/.installed
	$(BIN)/pytest $(PARALLEL) -m slow

# On a machine with an NVIDIA card.
test-gpu: $(VENV)/.installed
	$(BIN)/pytest -m gpu

# In an environment of its own: Ray, pyarrow and pandas take 410 MB.
test-ray: $(RAY_VENV)/.installed
	$(RAY_VENV)/bin/pytest -m ray $(RAY_TESTS) tests/test_ray.py

# Thousands of broken and hostile files; writes benchmarks/hostile.md.
fuzz: $(VENV)/.installed
	$(BIN)/python tests/fuzz/run.py

# Is it still as many times as fast as torchvision's as benchmarks/speed.json says?
bench-guard: $(VENV)/.installed
	$(BIN)/python benchmarks/speed.py --guard

check: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" pre-commit run --all-files

clean:
	rm -rf $(VENV) $(RAY_VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	touch $@

$(RAY_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(RAY_VENV)/bin/uv pip install --python $(RAY_VENV)/bin/python --constraint constraints.txt --group dev --editable '.[ray]'
	touch $@
