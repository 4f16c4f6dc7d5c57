# Two virtual environments, made when first needed and again when a dependency changes:
#   .venv          everything: training, export, tests, linters
#   .venv-runtime  what a device has (numpy, Pillow, click, one engine), in the oldest versions that are allowed, and pytest
PYTHON ?= python3
VENV := .venv
RUNTIME_VENV := .venv-runtime
BIN := $(VENV)/bin
PIP_INSTALL = install --quiet --disable-pip-version-check --constraint

# A process for each folder of tests, so that `make test --jobs=2` runs two at a time; those that take longest begin first.
LONGEST := tests/end_to_end/ tests/edgecls/cli/ tests/export/ tests/edgecls/training/
FOLDERS := $(sort $(dir $(shell find tests -name 'test_*.py')))
TESTS := $(addprefix test@,$(LONGEST) $(filter-out $(LONGEST),$(FOLDERS)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-packages $(TESTS) test-runtime-alone lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip $(PIP_INSTALL) constraints.txt --editable '.[cpu,openvino,train,tensorrt-rtx,dev]'
	@touch $@

# Not editable: this also proves that the wheel holds what it must.
$(RUNTIME_VENV)/installed: pyproject.toml constraints.txt tests/oldest.py $(shell find edgecls export runtime -name '*.py')
	$(PYTHON) -m venv --clear $(RUNTIME_VENV)
	$(PYTHON) tests/oldest.py > $(RUNTIME_VENV)/constraints.txt
	$(RUNTIME_VENV)/bin/python -m pip $(PIP_INSTALL) $(RUNTIME_VENV)/constraints.txt '.[cpu]' pytest pytest-timeout
	@touch $@

demo: $(VENV)/installed  ## train on drawn shapes, export, verify, infer: no download
	rm -rf demo-output && mkdir demo-output
	$(BIN)/python examples/drawn_shapes.py --output demo-output
	$(BIN)/edgecls export demo-output/shapes.pt --output demo-output/shapes.onnx
	$(BIN)/edgecls verify demo-output/shapes.onnx
	$(BIN)/edgecls infer --engine demo-output/shapes.onnx demo-output/pictures

test: test-packages test-runtime-alone  ## every test

test-packages: $(TESTS)

$(TESTS): test@%: $(VENV)/installed
	$(BIN)/pytest $*test_*.py

test-runtime-alone: $(RUNTIME_VENV)/installed  ## the runtime's tests where nothing but its own dependencies is, in their oldest versions
	EDGECLS_RUNTIME_ALONE=1 EDGECLS_REQUIRE=$(RUNTIME_ALONE_REQUIRE) \
	  $(RUNTIME_VENV)/bin/pytest tests/runtime tests/edgecls/cli tests/edgecls/test_diagnosis.py tests/edgecls/test_ray_data.py tests/edgecls/test_tuning.py

lint: $(VENV)/installed  ## ruff with the layer guard, mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=benchmarks $(BIN)/mypy benchmarks/*.py

format: $(VENV)/installed  ## let ruff format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove environments and what was built
	rm -rf $(VENV) $(RUNTIME_VENV) dist build demo-output .mypy_cache .pytest_cache .ruff_cache
