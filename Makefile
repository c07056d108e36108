# `make demo` and `make test` set up everything that they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CMAKE ?= $(if $(wildcard $(BIN)/cmake),$(BIN)/cmake,cmake)
JOBS ?= 2
QUIET := --log-level=NOTICE
READY := $(VENV)/.ready
MODULES := build/modules.txt
# Of what builds the package, too, whichever of the two this pip reads.
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DOCS := "mkdocs-material>=9.6,<10" "mkdocstrings[python]>=0.29" "jupytext>=1.16" "nbclient>=0.10" "ipykernel>=6.29"

CXX_FILES := $(shell find native -name '*.?pp')
NATIVE := CMakeLists.txt $(CXX_FILES)

.PHONY: FORCE setup demo native test test-random test-native test-neon test-windows fuzz wheels wheels-aarch64 lock check docs bench format clean

setup: $(READY)

# An editable installation knows the modules that there were: it is made again when one comes or goes.
$(MODULES): FORCE
	@mkdir -p $(@D)
	@find src -name '*.py' | LC_ALL=C sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

FORCE:

$(READY): pyproject.toml constraints.txt Makefile $(NATIVE) $(MODULES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "secateur needs Python 3.10 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "making $(VENV) failed: install Python's venv module (on Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(INSTALL) -e '.[torch,report,dev,native]'
	@touch $@

demo: $(READY)
	$(BIN)/secateur demo

# The extension alone, into src/secateur: what to run after a change in native/.
native:
	@$(CMAKE) -S . -B build/native -DSECATEUR_STRICT=ON -DPython_EXECUTABLE=$(abspath $(BIN)/python) $(QUIET)
	@$(CMAKE) --build build/native --parallel $(JOBS)

# The native tests, under the address and undefined-behaviour sanitizers.
test-native:
	@$(CMAKE) -S . -B build/sanitized -DSECATEUR_PYTHON=OFF -DSECATEUR_TESTS=ON -DSECATEUR_STRICT=ON \
		-DSECATEUR_SANITIZE=ON $(QUIET)
	@$(CMAKE) --build build/sanitized --parallel $(JOBS)
	build/sanitized/secateur_tests

# The NEON kernel on any machine: needs g++-aarch64-linux-gnu and qemu-user.
test-neon:
	@$(CMAKE) -S . -B build/neon -DSECATEUR_PYTHON=OFF -DSECATEUR_TESTS=ON -DCMAKE_SYSTEM_NAME=Linux \
		-DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ $(QUIET)
	@$(CMAKE) --build build/neon --parallel $(JOBS)
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/neon/secateur_tests
	qemu-aarch64 -cpu cortex-a72 -L /usr/aarch64-linux-gnu build/neon/secateur_tests byte  # without dot products

# The core, the reader and the C library for Windows: needs g++-mingw-w64-x86-64-posix, and wine64 to run the native tests.
MINGW := x86_64-w64-mingw32
WINE ?= $(firstword $(wildcard /usr/lib/wine/wine64 /usr/bin/wine))
test-windows:
ifeq ($(shell command -v $(MINGW)-g++-posix),)
	@echo "no $(MINGW)-g++-posix: nothing was compiled for Windows"
else
	@$(CMAKE) -S . -B build/windows -DSECATEUR_PYTHON=OFF -DSECATEUR_TESTS=ON -DSECATEUR_EXAMPLES=ON -DSECATEUR_STRICT=ON \
		-DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 -DCMAKE_CXX_COMPILER=$(MINGW)-g++-posix \
		-DCMAKE_C_COMPILER=$(MINGW)-gcc-posix -DCMAKE_RC_COMPILER=$(MINGW)-windres \
		-DCMAKE_EXE_LINKER_FLAGS=-static -DCMAKE_SHARED_LINKER_FLAGS=-static $(QUIET)
	@$(CMAKE) --build build/windows --parallel $(JOBS)
	$(if $(WINE),WINEPREFIX=$(abspath build/windows/wine) WINEDEBUG=-all $(WINE) build/windows/secateur_tests.exe,\
		@echo "no wine: what was compiled for Windows was not run")
endif

# Wheels for Linux from glibc 2.28 on and an sdist, in dist/: twice, checked, and tried out. PYTHONS: what they are built for
# and tried out with. wheels-aarch64: likewise, compiled across, one tried out under qemu.
wheels:
	$(PYTHON) release/wheels.py --twice $(PYTHONS)

wheels-aarch64:
	$(PYTHON) release/wheels.py --twice --machine aarch64 $(PYTHONS)

# The reader of the C library, by libFuzzer: needs clang. FUZZ: options of libFuzzer.
FUZZ ?= -max_total_time=600
fuzz:
	@$(CMAKE) -S . -B build/fuzz -DSECATEUR_PYTHON=OFF -DSECATEUR_FUZZ=ON -DSECATEUR_SANITIZE=ON \
		-DCMAKE_CXX_COMPILER=clang++ $(QUIET)
	@$(CMAKE) --build build/fuzz --parallel $(JOBS) --target fuzz_reader
	@mkdir -p build/fuzz/corpus
	build/fuzz/fuzz_reader $(FUZZ) -timeout=10 -rss_limit_mb=1024 build/fuzz/corpus tests/golden

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

# What is tested on examples by Hypothesis, on others than `make test` takes, which takes the same each time.
test-random: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -m hypothesis --hypothesis-profile random

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 --no-warn-unused-ignores src release  # names and syntax of the oldest Python

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CXX_FILES)
	$(BIN)/ruff check --fix

# constraints.txt anew, of pyproject.toml's ranges: by uv, which resolves for all versions of Python and systems at once, and
# keeps what still fits. LOCK: what to renew, as in LOCK="--upgrade-package numpy".
LOCK ?=
lock:
	uv pip compile pyproject.toml --quiet --universal --python-version 3.10 --all-extras --no-annotate \
		--custom-compile-command "make lock" --output-file constraints.txt $(LOCK)

# The site, into build/site; a link or a name that leads nowhere is an error, and so is an example that does not run.
docs: $(READY)
	@$(BIN)/python -c 'import mkdocstrings, material, jupytext, nbclient, ipykernel' 2>/dev/null || \
		$(INSTALL) $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site: build/site/index.html"

bench: $(READY)
	$(BIN)/python benchmarks/prune_memory.py
	$(BIN)/python benchmarks/training_loop.py
	$(BIN)/python benchmarks/plain_sweep.py
	$(BIN)/python benchmarks/packed_size.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
