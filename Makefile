# Everything sets itself up: Python 3.11 and make are all that has to be there.
#   make demo      quantize the shipped multilingual model with INC's own RTN and with la_aciq, and compare
#   make test      the tests, on neural-compressor 3.7.1
#   make test-all  the same, and neural-compressor 2.6 and 3.10 in environments of their own
#   make check     lint and types
# PIP_ARGS is passed to pip, for example to name an index that serves torch's CPU build.

PYTHON ?= python3.11
PIP_ARGS ?=
# A file's tests stay together: they share models and exports that take long to make. A process that crashes ends the
# run: pytest-xdist would start another and then wait for ever.
PYTEST_ARGS ?= -n auto --dist loadfile --max-worker-restart 0
EXTRAS := adaptor,datasets,openvino,genai,dev
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test test-all test-inc26 test-torch-api check clean

demo: .venv/installed
	.venv/bin/inc-laaciq quantize yaml/w4g64_sym.yaml --compare rtn --output demo-output --overwrite

test: .venv/installed
	.venv/bin/python -m pytest -q $(PYTEST_ARGS)

test-all: test test-inc26 test-torch-api

test-inc26: .venv-inc26/installed
	.venv-inc26/bin/python -m pip show neural-compressor | grep '^Version: 2\.6'
	.venv-inc26/bin/python -m pytest -q $(PYTEST_ARGS) -m inc

test-torch-api: .venv-torch-api/installed
	.venv-torch-api/bin/python -m pip show neural-compressor | grep '^Version: 3\.10'
	.venv-torch-api/bin/python -m pytest -q $(PYTEST_ARGS) -m inc

check: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv .venv-inc26 .venv-torch-api demo-output build *.egg-info

# The stamp is written last, so that an interrupted installation is repeated.
.venv/installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q $(PIP_ARGS) --upgrade -c constraints.txt setuptools wheel
	.venv/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt --no-build-isolation -e ".[$(EXTRAS)]"
	touch $@

.venv-inc26/installed: pyproject.toml constraints.txt
	test -x .venv-inc26/bin/python || $(PYTHON) -m venv .venv-inc26
	sed 's/^neural[-_]compressor==.*/neural-compressor==2.6/' constraints.txt > .venv-inc26/constraints.txt
	.venv-inc26/bin/python -m pip install -q $(PIP_ARGS) --upgrade -c .venv-inc26/constraints.txt setuptools wheel
	.venv-inc26/bin/python -m pip install -q $(PIP_ARGS) -c .venv-inc26/constraints.txt --no-build-isolation -e ".[adaptor,datasets,dev]"
	touch $@

# neural-compressor 3.10 needs numpy 2, and with it other versions of what is built against numpy; pip chooses those.
.venv-torch-api/installed: pyproject.toml constraints.txt
	test -x .venv-torch-api/bin/python || $(PYTHON) -m venv .venv-torch-api
	sed -e 's/^neural[-_]compressor==.*/neural-compressor==3.10/' -e 's/^numpy==.*/numpy==2.4.6/' constraints.txt > .venv-torch-api/constraints.txt
	.venv-torch-api/bin/python -m pip install -q $(PIP_ARGS) --upgrade -c .venv-torch-api/constraints.txt setuptools wheel
	.venv-torch-api/bin/python -m pip install -q $(PIP_ARGS) -c .venv-torch-api/constraints.txt --no-build-isolation -e ".[torch-api,datasets,dev]"
	touch $@
