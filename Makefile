# `make demo` and `make test` are all that is needed on a fresh Debian or Ubuntu: each sets up what it lacks, in
# build/ and, as root or with sudo, by apt-get. `make help` lists the rest.

sources := pyproject.toml setup.py $(shell find csrc profiles src -name '*.py' -o -name '*.[ch]' -o -name '*.toml' -o -name '*.bpf')

.PHONY: help demo test test-container test-vm unit property kernel escape lint format filters bench clean packages test-packages vm-packages container-packages
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z][a-z -]*\):.*## /\1\t/p' Makefile | expand -t 30

demo: build/jail.stamp build/test.stamp  ## show what a sandbox is: a test suite, and a hostile one
	build/venv/bin/python tools/demo.py

test: build/jail.stamp build/test.stamp test-packages  ## every test; as root, as root and as an ordinary user
	tools/run-tests

unit property kernel escape fuzz: build/jail.stamp build/test.stamp test-packages  ## the tests of one kind; K=WORDS as for pytest -k
	tools/run-tests tests/$@ $(if $(K),-k '$(K)')

test-vm: build/jail.stamp vm-packages  ## tests on other kernels, in QEMU; KERNELS="6.1 newest", CONFIG=user, TESTS=ci or paths, K=WORDS
	PYTHONPATH=tests build/venv/bin/python -m vm --kernels '$(KERNELS)' --configurations '$(CONFIG)' --tests '$(TESTS)' -k '$(K)'

test-container: build/wheel.stamp container-packages  ## tests in real containers, as root; CASES="restricted user", TESTS=ci or paths, K=WORDS
	cd tests && ../build/venv/bin/python -m container --wheel $(CURDIR)/build/wheel/*.whl --cases '$(CASES)' --tests '$(TESTS)' -k '$(K)'

lint: build/lint.stamp  ## style, types, spelling
	build/lint/bin/ruff check
	build/lint/bin/ruff format --check
	build/lint/bin/mypy
	build/lint/bin/clang-format --dry-run -Werror csrc/*.[ch] benchmarks/*.[ch] tests/fuzz/*.c
	build/lint/bin/codespell

format: build/lint.stamp  ## rewrite Python and C in the house style
	build/lint/bin/ruff check --fix
	build/lint/bin/ruff format
	build/lint/bin/clang-format -i csrc/*.[ch] benchmarks/*.[ch] tests/fuzz/*.c

filters: build/jail.stamp build/test.stamp  ## compile the built-in seccomp filters anew
	build/venv/bin/python -W ignore::RuntimeWarning:runpy -m jail.seccomp src/jail/filters

bench: build/jail.stamp build/test.stamp test-packages  ## measure, beside the peers
	for script in $$(grep -l '__name__ == ' benchmarks/*.py); do build/venv/bin/python $$script || exit; done

clean:  ## remove what was built
	rm -rf build dist src/*.egg-info src/jail/bin src/jail/_core*.so

# Set-up. A stamp is newer than what it was made from; packages are looked up each time, which costs little.

packages:
	@tools/install-packages build

test-packages:
	@tools/install-packages test

vm-packages:
	@tools/install-packages vm

container-packages:
	@tools/install-packages container
	@tools/install-packages docker-client

build/venv.stamp: pyproject.toml tools/make-venv | packages
	tools/make-venv build/venv --group build
	touch $@

build/test.stamp: build/venv.stamp
	build/venv/bin/pip install --quiet --group test
	touch $@

build/lint.stamp: pyproject.toml tools/make-venv | packages
	tools/make-venv build/lint --group lint
	touch $@

# setuptools keeps modules that were deleted since: its own directories are made anew.
build/jail.stamp: build/venv.stamp $(sources)
	rm -rf build/lib* build/temp* build/bdist*
	build/venv/bin/pip install --quiet --no-build-isolation --no-deps --force-reinstall .
	touch $@

build/wheel.stamp: build/venv.stamp $(sources)
	rm -rf build/lib* build/temp* build/bdist* build/wheel
	build/venv/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel .
	touch $@
