# Needs Python 3.11 or newer and nothing else. Another interpreter: make PYTHON=python3.12 ...
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=

.PHONY: help search test lint docs bench clean
.DEFAULT_GOAL := help

help:
	@echo "make search   set up .venv and search on the embedded digits (ARGS='--trials 60' adds flags)"
	@echo "make test     run the tests"
	@echo "make lint     check style and types"
	@echo "make docs     build the documentation in site/; warnings are errors"
	@echo "make bench    list the benchmarks; NAME=overhead runs one, which prints one JSON object"
	@echo "make clean    remove .venv and all that was built; runs/ stays"

search: $(READY)
	@$(BIN)/nas-edge search $(ARGS)

test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(ARGS)

lint: $(READY) .mypy_path
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "format with: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy --no-error-summary nas_edge .mypy_path/nas_edge_plugins .mypy_path/nas_edge_spaces tests benchmarks

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "read it with: $(BIN)/python -m http.server -d site"

bench: $(READY)
ifdef NAME
	@$(BIN)/python benchmarks/$(NAME).py $(ARGS)
else
	@for file in benchmarks/*.py; do printf '%-18s %s\n' "$$(basename $$file .py)" "$$(head -1 $$file | cut -c4-)"; done
	@echo "run one with: make bench NAME=overhead; ARGS=--help tells its options"
endif

clean:
	@rm -rf .venv .mypy_path .mypy_cache .ruff_cache .pytest_cache build dist site *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; old = sys.version_info < (3, 11); \
	    sys.exit("nas-edge needs Python 3.11 or newer; $(PYTHON) is %s; try: make PYTHON=python3.12" % sys.version.split()[0] if old else 0)'
	@echo "setting up .venv: torch, onnxruntime and others, some minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[test,lint,dashboard,report,docs]'
	@touch $@

# The type checker reaches the mapped packages under the names that they are imported by.
.mypy_path:
	@mkdir -p $@
	@ln -sfn ../plugins $@/nas_edge_plugins
	@ln -sfn ../search_spaces $@/nas_edge_spaces
