# Every target makes the environment it needs: only Python and make have to be there.

PYTHON ?= python3
# The same pin as the first line of constraints.txt. It goes in before anything that needs torch,
# because any other torch brings gigabytes that nobody here uses.
TORCH := torch==2.13.0
EXTRAS := onnx,torch,train,viz,server
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt

ifeq ($(OS),Windows_NT)
BIN := Scripts
else
BIN := bin
endif
PY := .venv/$(BIN)/python
DEMO_PY := .venv-demo/$(BIN)/python

BASE_FILES := $(filter-out %.pyc,$(wildcard $(foreach d,/ /*/ /*/*/ /*/*/*/,src/openkeypoints$(d)*.*)))

.PHONY: help demo test test-real quick check bench soak fix clean

help:
	@echo "make demo       install the package and find the people on a photograph"
	@echo "make test       all tests that need nothing else"
	@echo "make quick      the fast ones of them"
	@echo "make test-real  the tests that need other programs (clients, browsers)"
	@echo "make check      ruff, mypy, import-linter"
	@echo "make fix        what ruff can mend"
	@echo "make bench      measure speed;  make soak: run for long"

# ------------------------------------------------------------------------- environments

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(PY) $(PIP_INSTALL) "$(TORCH)"
	$(PY) $(PIP_INSTALL) --editable ".[$(EXTRAS)]" --group dev
	@$(PY) -c "open('$@', 'w').close()"

# The demo is what a user gets: the base package, built and installed, without any extra.
.venv-demo/.ready: pyproject.toml constraints.txt $(BASE_FILES)
	$(PYTHON) -m venv .venv-demo
	$(DEMO_PY) $(PIP_INSTALL) .
	@$(DEMO_PY) -c "open('$@', 'w').close()"

# ------------------------------------------------------------------------- targets

demo: .venv-demo/.ready
	@$(DEMO_PY) -c "import shutil; shutil.rmtree('demo', ignore_errors=True)"
	@.venv-demo/$(BIN)/okp predict src/openkeypoints/samples/people.jpg --save demo
	@$(DEMO_PY) -c "from pathlib import Path; \
	made = sorted(p for p in Path('demo').rglob('*') if p.is_file()); \
	assert {p.suffix for p in made} >= {'.jpg', '.json'}, f'a file is missing: {made}'; \
	print('The picture with the keypoints, and the same as JSON:', *made, sep='\n  ')"

test: .venv/.ready
	@$(PY) -m pytest -m "not client and not browser and not gpu"

quick: .venv/.ready
	@$(PY) -m pytest -m "not slow and not client and not browser and not gpu"

# The tests of the pages drive a real browser, which comes from the distribution.
BROWSER_PACKAGES := chromium curl fonts-dejavu-core

.venv/.browser: .venv/.ready
	$(PY) $(PIP_INSTALL) --group browser
	@if ! command -v chromium >/dev/null || ! command -v curl >/dev/null; then \
	root=$$([ "$$(id -u)" = 0 ] || echo sudo); export DEBIAN_FRONTEND=noninteractive; \
	$$root apt-get update -qq && $$root apt-get install -y -qq --no-install-recommends \
	-o DPkg::Lock::Timeout=600 $(BROWSER_PACKAGES); fi
	@$(PY) -c "open('$@', 'w').close()"

# The clients that people have already, each in an environment of its own.
.venv-clients/.ready: tests/clients/environments.py .venv/.ready
	$(PY) $<

# pytest answers 5 where it finds no such test; every other code is a result.
test-real: .venv/.ready .venv/.browser .venv-clients/.ready
	@$(PY) -m pytest -m "client or browser"; code=$$?; \
	if [ $$code -eq 5 ]; then echo "There are no tests with other programs yet."; else exit $$code; fi

check: .venv/.ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/$(BIN)/lint-imports

fix: .venv/.ready
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# Every script benchmarks/bench_*.py (or soak_*.py), one after the other; the first failure ends it.
bench soak: .venv/.ready
	@$(PY) -c "import subprocess, sys; from pathlib import Path; \
	scripts = sorted(Path('benchmarks').glob('$@_*.py')); \
	scripts or print('There is no benchmarks/$@_*.py yet.'); \
	[subprocess.run([sys.executable, str(s)], check=True) for s in scripts]"

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(d, ignore_errors=True) for d in ('.venv', '.venv-demo', '.venv-bench', '.venv-clients', '.venv-deploy', 'demo')]"
