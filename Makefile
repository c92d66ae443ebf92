# `make demo` and `make test` need Python 3.11 or newer, git and make; everything else is set up in $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Two tests at a time, each with half of the machine's threads.
PARALLEL = -n 2 --dist worksteal

RAY_VENV ?= .venv-ray
RELEASE_VENV ?= .venv-release
EVERYTHING_VENV ?= .venv-everything
LOWEST_VENV ?= .venv-lowest
HIGHEST_VENV ?= .venv-highest
# The oldest Python that pyproject.toml allows, and the newest that is installed.
LOWEST_PYTHON ?= python3.11
HIGHEST_PYTHON ?= python3.13
# Old packages warn about new ones, and new ones about what will change.
OTHER_VERSIONS = -m "not slow and not gpu and not ray" --ignore tests/test_distributed.py -W default::DeprecationWarning

.PHONY: docs docs-serve notebooks demo test test-slow test-gpu test-ray fuzz bench-guard check clean dist audit licenses extras test-lowest test-highest

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

# Runs the notebooks, two at a time, and writes them with their outputs as pages.
notebooks: $(VENV)/.installed
	printf '%s\n' $(basename $(notdir $(wildcard docs/notebooks/*.ipynb))) | \
		OMP_NUM_THREADS=1 xargs -P 2 -n 1 $(BIN)/python docs/make_notebooks.py --out build/notebooks

# The documentation site: build/site/html/index.html. Also writes the pages that come from the code.
docs: $(VENV)/.installed
	$(BIN)/python docs/make_api.py
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_site.py
	$(BIN)/pytest -q tests/test_site.py

# The site on http://localhost:8000.
docs-serve: $(VENV)/.installed
	$(BIN)/python docs/make_site.py
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site/html 8000

# Sdist, wheel, SBOM and checksums in dist/, built twice and compared. RELEASE=--allow-changes: also before a commit.
dist: $(RELEASE_VENV)/.installed
	$(RELEASE_VENV)/bin/python tools/release.py $(RELEASE)

# Known vulnerabilities in the versions of constraints.txt.
audit: $(RELEASE_VENV)/.installed
	$(RELEASE_VENV)/bin/python tools/audit.py

# Writes docs/licenses.md.
licenses: $(EVERYTHING_VENV)/.installed
	$(EVERYTHING_VENV)/bin/python tools/licenses.py

# What each extra adds, for docs/install.md.
extras: $(EVERYTHING_VENV)/.installed
	$(EVERYTHING_VENV)/bin/python tools/extras.py

# `make test` with the lowest versions that pyproject.toml allows; TESTS=tests/ops runs a part.
test-lowest: $(LOWEST_VENV)/.installed
	$(LOWEST_VENV)/bin/pytest $(PARALLEL) $(OTHER_VERSIONS) $(TESTS)

# `make test` with the newest Python and the newest versions.
test-highest: $(HIGHEST_VENV)/.installed
	$(HIGHEST_VENV)/bin/pytest $(PARALLEL) $(OTHER_VERSIONS) $(TESTS)

clean:
	rm -rf $(VENV) .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

$(RELEASE_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(RELEASE_VENV)/bin/uv pip install --python $(RELEASE_VENV)/bin/python --constraint constraints.txt --group release
	touch $@

# Without frcnn: everything that it and its development need.
$(EVERYTHING_VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(EVERYTHING_VENV)
	$(EVERYTHING_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(EVERYTHING_VENV)/bin/uv pip install --python $(EVERYTHING_VENV)/bin/python --constraint constraints.txt \
		--requirement pyproject.toml --all-extras --group dev --group release
	touch $@

# First frcnn's requirements in their lowest versions, only as wheels; then the newest tools that fit them.
$(LOWEST_VENV)/.installed: pyproject.toml
	$(LOWEST_PYTHON) -m venv --clear $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST_VENV)/bin/uv pip install --python $(LOWEST_VENV)/bin/python --resolution lowest-direct --no-build \
		--requirement pyproject.toml --all-extras
	$(LOWEST_VENV)/bin/uv pip freeze --python $(LOWEST_VENV)/bin/python > $(LOWEST_VENV)/lowest.txt
	$(LOWEST_VENV)/bin/uv pip install --python $(LOWEST_VENV)/bin/python --constraint $(LOWEST_VENV)/lowest.txt \
		--group dev --editable .
	touch $@

$(HIGHEST_VENV)/.installed: pyproject.toml
	$(HIGHEST_PYTHON) -m venv --clear $(HIGHEST_VENV)
	$(HIGHEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(HIGHEST_VENV)/bin/uv pip install --python $(HIGHEST_VENV)/bin/python --group dev --editable .
	touch $@
