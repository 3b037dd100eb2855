# The commands a person needs. `make help` lists them.
#
# Variables:
#   RADIOGRAPHS=folder   make demo: send these DICOM files instead of the phantoms
#   VIEWER=1             make demo: keep Orthanc and the viewer OHIF up, to see the boxes (README.md)
#   JOBS=2               make test: how many tests at once (1 for a machine with little memory)
#   PYTHON=python3.12    the Python to build .venv with (3.11 or newer)
#   TORCH_INDEX=address  take PyTorch from this package index, e.g. the one of its CPU build (see README.md)
#   ARGS="…"             make up, make phantom-model: options for `litegpt-node up`, `litegpt-train phantom-model`

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && exit; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := .venv-tools
PIP := $(BIN)/python -m pip --disable-pip-version-check
# pip's progress bars are for a person; a log can do without.
QUIET := $(if $(CI),--quiet)
RADIOGRAPHS ?=
VIEWER ?=
JOBS ?= 2
TORCH_INDEX ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo up test lint viewers lowest pins sbom audit phantom-model clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 22

setup: $(READY) ## make .venv with everything in it (the commands below do it by themselves)

demo: $(READY) ## send radiographs through a whole node and show what comes back; RADIOGRAPHS=folder, VIEWER=1
	@exec $(BIN)/litegpt-node demo $(if $(RADIOGRAPHS),--radiographs "$(RADIOGRAPHS)") $(if $(VIEWER),--viewer)

up: $(READY) ## run the node for your own modality and PACS, until Ctrl-C; ARGS="…" for options
	@exec $(BIN)/litegpt-node up $(ARGS)

test: $(READY) lint ## lint, types, who may import whom, then all tests
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(READY) ## ruff, mypy and import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

viewers: $(READY) ## the tests that look at OHIF's screen, with each version that is supported
	@OHIF="3.11.1 3.12.10 3.13.2" $(BIN)/python -m pytest tests/viewer

lowest: $(TOOLS)/.ready ## all tests again with the oldest versions that pyproject.toml allows, in .venv-lowest
	@test -x .venv-lowest/bin/python || "$(PYTHON)" -m venv .venv-lowest
	@$(TOOLS)/bin/uv pip install $(QUIET) --python .venv-lowest/bin/python --resolution lowest-direct -e '.[training,dev]'
	@.venv-lowest/bin/python -m pytest

pins: $(READY) $(TOOLS)/.ready ## write deploy/pins: the versions that the tests ran with, for the images
	@mkdir -p build
	@$(PIP) freeze --exclude-editable > build/tested.txt
	@for role in service worker; do \
		$(TOOLS)/bin/uv pip compile --quiet pyproject.toml $$(test $$role = worker && echo --extra worker) \
			--constraint build/tested.txt --python-version 3.12 --no-annotate \
			--custom-compile-command "make pins" --output-file deploy/pins/$$role.txt || exit 1; done

sbom: $(READY) ## write build/sbom-service.json and -worker.json: what the images hold, as CycloneDX
	@mkdir -p build
	@for role in service worker; do $(BIN)/python -W ignore -m cyclonedx_py requirements deploy/pins/$$role.txt \
		--pyproject pyproject.toml --output-reproducible --output-file build/sbom-$$role.json || exit 1; done

audit: $(TOOLS)/.ready ## ask PyPI for known vulnerabilities of what the images hold
	@$(TOOLS)/bin/pip-audit --no-deps --disable-pip --requirement deploy/pins/worker.txt

MODEL := build/phantom-model
phantom-model: $(READY) ## train the phantom model anew, from nothing; goes on where it was stopped
	@$(BIN)/litegpt-train phantom-model --out $(MODEL) $(ARGS)
	@test -d $(MODEL)/model || $(BIN)/litegpt-train calibrate $(MODEL)/diagnosis/best --version 0.3.0 --out $(MODEL)/model
	@cp $(MODEL)/training_log.csv $(MODEL)/model/
	@$(BIN)/litegpt-train evaluate $(MODEL)/model --images 500 --seed 31337 --out $(MODEL)/evaluation
	@$(BIN)/litegpt-train report $(MODEL)/pretraining $(MODEL)/grounding $(MODEL)/diagnosis $(MODEL)/evaluation --out $(MODEL)/report.html
	@echo "The model is $(MODEL)/model; what it can do on phantoms is in $(MODEL)/report.html."

clean: ## remove .venv and the caches (never any data of a node)
	rm -rf $(VENV) $(TOOLS) .venv-lowest .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

# Written only when all of it worked, so that an interrupted set-up goes on where it stopped.
$(READY): pyproject.toml
	@"$(PYTHON)" tools/preflight.py "$(VENV)" "$(TORCH_INDEX)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(if $(TORCH_INDEX),$(PIP) install $(QUIET) --index-url "$(TORCH_INDEX)" torch torchvision)
	@$(PIP) install $(QUIET) -e '.[worker,training,dev]'
	@touch $@
	@echo "$(VENV) is ready."

$(TOOLS)/.ready:
	@"$(PYTHON)" -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install $(QUIET) uv pip-audit
	@touch $@
