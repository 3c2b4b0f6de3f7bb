# Everything runs in a local virtual environment that the targets make themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORTRAIT := portrait of a woman, light skin, orange background, blue hair
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: demo test check weights clean

demo: $(VENV)/installed-demo
	$(BIN)/convert all --recipe demo --out bundles/demo
	$(BIN)/runtime generate "$(PORTRAIT)" --bundle bundles/demo --seed 11 --out out/plain.png --force
	$(BIN)/runtime generate "$(PORTRAIT)" --bundle bundles/demo --seed 11 --preset cracked \
		--out out/cracked.png --force
	$(BIN)/runtime generate "$(PORTRAIT)" --bundle bundles/demo --seed 11 --preset glowing \
		--out out/glowing.png --force
	@echo "The bundle is in bundles/demo/, the pictures are in out/: plain.png, cracked.png, glowing.png"

test: $(VENV)/installed-dev
	scripts/check

check: $(VENV)/installed-dev
	scripts/check --fast

weights: $(VENV)/installed-dev
	$(BIN)/python -m demo.training --work work/demo --out demo

$(VENV)/installed-demo: pyproject.toml constraints.txt
	@echo "Setting up $(VENV): a minute or two, most of it PyTorch"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) '.[convert,cpu]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) for development: a minute or two, most of it PyTorch"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) '.[convert,cpu,dev]'
	@touch $@ $(VENV)/installed-demo

clean:
	rm -rf $(VENV) bundles out work build dist .mypy_cache .ruff_cache .pytest_cache
