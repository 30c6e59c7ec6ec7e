# make demo   install into .venv, search on the embedded CT, leave runs/demo
# make test   install into .venv, run the tests (ARGS=--slow for all of them)
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Modules are compiled when they are first imported: most never are, and compiling them all takes longer than unpacking.
INSTALL = $(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt

# Compiled modules are kept even where the machine says otherwise: many tests start processes, and each would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(VENV)/bin/lomix demo $(ARGS)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -q -n 2 --dist worksteal $(ARGS)

lint: $(VENV)/.test
	$(VENV)/bin/ruff format --quiet . && $(VENV)/bin/ruff check --quiet --fix . && $(VENV)/bin/mypy
	$(VENV)/bin/python .ci/architecture.py

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make demo PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[demo]"
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
		{ echo "No C++ compiler: the package ziglang compiles the loss's kernel, once, which takes two minutes." && \
		$(INSTALL) ziglang && $(VENV)/bin/python -c "from lomix_search.mixture.loss.dispatch import engine_report as r; print(r())"; }
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(INSTALL) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
