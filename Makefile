# LoRA Foundry. `make help` lists the targets.
PY := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help up test lint format bench chaos reset lock doctor setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

up: ## Install what is missing, start everything, print the address and the login
	@bin/setup
	@exec $(PY) manage.py up $(ARGS)

test: ## Run the tests, in Python and in TypeScript; SLOW=1 adds the long ones, as CI does
	@bin/setup --dev
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder $(if $(CI)$(SLOW),,-m "not slow") $(ARGS)
	@if [ -f frontend/package-lock.json ]; then cd frontend && ../.venv/bin/npm test --silent; fi

lint: ## Check style, types, layers, migrations and translations
	@bin/setup --dev
	@bin/lint

format: ## Rewrite Python files in the house style
	@bin/setup --dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: ## Measure the trainer, the demo training and the pages
	@bin/setup --dev
	$(PY) -m bench $(ARGS)

chaos: ## Break everything at random while 200 trainings run, then check each of them
	@bin/setup --dev
	$(PY) -m bench.chaos $(ARGS)

doctor: ## Check this machine and say what to do
	@bin/setup
	@$(PY) manage.py doctor

setup: ## Install what is missing, start nothing
	@bin/setup

reset: ## Delete every local database, upload and log (asks first)
	@bin/reset

lock: ## Remake requirements/*.txt (ARGS=--upgrade for newer versions)
	@bin/lock $(ARGS)
