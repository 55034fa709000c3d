# People and CI run the same commands. `make` alone lists them.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
RUN     := $(VENV)/.installed-run
DEV     := $(VENV)/.installed-dev
PEERS   := storescp Orthanc strace curl jq sqlite3 debootstrap lintian dpkg-shlibdeps systemd-analyze strip
DEBIAN  := dcmtk orthanc orthanc-dicomweb strace curl jq sqlite3 debootstrap lintian dpkg-dev systemd binutils
DEMO    ?=
TESTS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench requirements configuration wheel offline deb binary peers clean

help: ## list what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(RUN) ## send sample studies through a real router and prove that every byte arrived (DEMO=--stay keeps it up)
	@$(BIN)/sendrs demo $(DEMO)

test: peers check ## run every check and test; as root, install the peers they need (TESTS=path runs some)
	$(BIN)/python -m pytest $(if $(TESTS),,--numprocesses=auto --maxprocesses=4 --dist=loadfile) $(TESTS)

check: $(DEV) ## format, lint, types and layers, in seconds
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && echo "ruff: fine"
	@$(BIN)/mypy --no-error-summary && echo "mypy: fine"
	@$(BIN)/lint-imports --no-logo > $(VENV)/layers.txt || { cat $(VENV)/layers.txt; exit 1; }; echo "layers: fine"

format: $(DEV) ## put the code into form
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(DEV) peers ## measure against dcmtk and Orthanc, and print ratios
	$(BIN)/python -m bench

requirements: $(DEV) ## write docs/conformance/requirements.md: what of SEND-RS is shown by which test
	@$(BIN)/python tests/make_requirements.py

configuration: $(DEV) ## write the tables of docs/configuration.md out of router/config/model.py
	@$(BIN)/python tests/make_configuration.py

wheel: $(DEV) ## build wheel and sdist into dist/: the same sources give the same bytes
	@$(BIN)/python -m build --outdir dist . > $(VENV)/build.log 2>&1 || { cat $(VENV)/build.log; exit 1; }; ls dist/sendrs-*

offline: wheel ## collect in dist/offline what pipx, pip and `make deb` need to install without a network
	@$(BIN)/python packaging/offline.py dist/offline

deb: $(DEV) ## build the package for Debian 12 into dist/ (DEBFULLNAME and DEBEMAIL say who answers for it)
	@$(BIN)/python packaging/deb/build.py

binary: $(DEV) ## build dist/sendrs, one executable file that needs no Python
	@$(BIN)/python packaging/binary/build.py

# The real programs that the tests talk to. Orthanc's package starts a service of its own, on the ports that a person may
# want for something else: it is kept from starting, and stopped if it started all the same.
peers:
	@missing=""; for program in $(PEERS); do \
	  PATH="$$PATH:/usr/sbin" command -v $$program > /dev/null || missing="$$missing $$program"; done; \
	ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so* > /dev/null 2>&1 || missing="$$missing orthanc-dicomweb"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
	  echo "Not on this machine:$$missing. Tests that need them are skipped (under CI=true they fail)."; \
	  echo "Install them with: sudo apt-get install $(DEBIAN)"; exit 0; fi; \
	echo "Installing $(DEBIAN) ..."; \
	policy=/usr/sbin/policy-rc.d; ours=""; \
	if [ ! -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' > $$policy && chmod 755 $$policy && ours=yes; fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN) > /dev/null; \
	result=$$?; \
	if [ -n "$$ours" ]; then rm -f $$policy; fi; \
	if [ -d /run/systemd/system ]; then systemctl disable --now --quiet orthanc 2> /dev/null || true; fi; \
	exit $$result

# Debian keeps what `python3 -m venv` needs in a package of its own. A half-made environment is not left behind.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) > $(VENV).log 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq python3-venv > /dev/null \
	       && $(PYTHON) -m venv --clear $(VENV) > $(VENV).log 2>&1; } \
	  || { cat $(VENV).log; rm -rf $(VENV); echo "Try: sudo apt-get install python3-venv"; exit 1; }
	@rm -f $(VENV).log

$(RUN): $(VENV)/bin/python pyproject.toml
	@echo "Installing sendrs into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -e .
	@touch $@

$(DEV): $(VENV)/bin/python pyproject.toml
	@echo "Installing sendrs and its development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(RUN)

clean: ## remove the environment and everything that was generated
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache .pytest_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
