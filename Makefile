# Everything a newcomer needs is `make run`, `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$candidate && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev
BENCH := .venv-bench
INSTALLED_BENCH := $(BENCH)/installed
# most tests wait for something: twice as many at a time as there are cores
JOBS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))))
INTEGRATION := $(addprefix tests/,databases deploy metrics migrations runbook scenarios tracing workers)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help run demo test test-int simulate chaos bench overload scale-report check format servers env up docker-up down ps logs scale roll services migrate migrate-up migrate-down migrate-status migrate-create seed audit translations screenshots advisories outdated freeze clean

help:  ## list the commands
	@grep -hE '^[a-z -]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{ printf "  make %-18s %s\n", $$1, $$2 }'

run: $(INSTALLED)  ## open the shop on http://127.0.0.1:8000 (HOST, PORT), everything in one process; Ctrl-C closes it
	@exec $(BIN)/python -m app run

demo: $(INSTALLED)  ## play every scenario of the seeds in every kind of saga, and check how it ended
	@$(BIN)/python -m app demo

test: $(INSTALLED_DEV)  ## run every test that this machine can run, side by side (JOBS; two for each core)
	$(BIN)/python -m pytest -n $(JOBS)

test-int: $(INSTALLED_DEV)  ## run only the tests that start real processes or need servers, side by side (JOBS)
	$(BIN)/python -m pytest -n $(JOBS) $(INTEGRATION)

simulate: $(INSTALLED)  ## play random schedules of crashes, losses and repetitions in one thread (RUNS, SEED)
	@$(BIN)/python -m tests.simulation --runs $(or $(RUNS),2000) --seed $(or $(SEED),0)

chaos: $(INSTALLED)  ## kill everything at random while orders arrive (STACK=rabbitmq|redis|embedded, SEED, ORDERS, KILLS)
	@$(BIN)/python -m tests.chaos --stack $(or $(STACK),all) $(if $(SEED),--seed $(SEED)) \
		$(if $(ORDERS),--orders $(ORDERS)) $(if $(KILLS),--kills $(KILLS))

bench: $(INSTALLED_BENCH)  ## the same saga on this engine, on its peers and on nothing, in turns (ONLY, ROUNDS, SAGAS, IN_FLIGHT)
	@$(BENCH)/bin/python -m bench.compare $(if $(ONLY),--only "$(ONLY)") $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SAGAS),--sagas $(SAGAS)) $(if $(IN_FLIGHT),--in-flight $(IN_FLIGHT))

overload: $(INSTALLED)  ## have more orders arrive than the shop can serve (STACK=rabbitmq|redis|embedded, SECONDS)
	@$(BIN)/python -m bench.own overload $(if $(STACK),--stack $(STACK)) $(if $(SECONDS),--seconds $(SECONDS))

scale-report: $(INSTALLED)  ## count up a service's replicas under load (SERVICE, REPLICAS=1,2,4, ORDERS, STACK=processes|compose)
	@$(BIN)/python -m bench.scale_report $(if $(STACK),--stack $(STACK)) $(if $(SERVICE),--service $(SERVICE)) \
		$(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(ORDERS),--orders $(ORDERS))

check: $(INSTALLED_DEV)  ## format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED_DEV)  ## put the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

servers: migrate seed  ## on DATABASE_URL and BROKER_URL: web, one worker per service, scheduler and Flower, each a process
	@PORT=$${PORT:-8000} PROMETHEUS_MULTIPROC_DIR=$${PROMETHEUS_MULTIPROC_DIR:-var/metrics} exec $(BIN)/honcho start

env:  ## write .env with new secrets, or add those that an existing .env lacks
	@sh deploy/make-env

up docker-up: env  ## build and start the whole shop in containers, on http://127.0.0.1:8080 (see .env)
	@set -eu; version=$$(sh deploy/build-image); \
	CLOUDMART_VERSION=$$version docker compose up --detach --no-build --wait; \
	sh deploy/make-env CLOUDMART_VERSION=$$version

down:  ## stop and remove the containers; the data stay
	docker compose down

ps:  ## list the containers, and how they are
	@docker compose ps --format 'table {{.Service}}\t{{.Name}}\t{{.Status}}'

logs:  ## follow what the containers say (SERVICE for one of them)
	@docker compose logs --follow --tail 50 $(SERVICE)

scale: env  ## run so many containers of a service, and touch no other (SERVICE=payments REPLICAS=4)
	@set -eu; version=$$($(PYTHON) deploy/roll.py --version-of $(SERVICE)); \
	test -z "$$version" || export CLOUDMART_VERSION=$$version; \
	docker compose up --detach --wait --no-deps --no-build --no-recreate \
		--scale $(or $(SERVICE),$(error SERVICE is missing))=$(or $(REPLICAS),$(error REPLICAS is missing)) $(SERVICE)

roll: env  ## build, migrate, and replace the containers under load, one at a time (SERVICES for some of them, VERSION to go back)
	@set -eu; version=$${VERSION:-$$(sh deploy/build-image)}; export CLOUDMART_VERSION=$$version; \
	test -n "$${VERSION:-}" || docker compose run --rm --no-deps migrate; \
	$(PYTHON) deploy/roll.py $(SERVICES)

services:  ## install (Debian, as root) what the tests need: PostgreSQL, RabbitMQ, Redis, Prometheus, nginx, Chromium
	bash .ci/services

migrate migrate-up: $(INSTALLED)  ## bring the database to the newest schema
	@$(BIN)/python -m app migrate up

migrate-down: $(INSTALLED)  ## take back the newest revision, with what only it can hold
	@$(BIN)/python -m app migrate down --yes

migrate-status: $(INSTALLED)  ## say which schema the database has, and what is pending
	@$(BIN)/python -m app migrate status

migrate-create: export NAME := $(NAME)
migrate-create: $(INSTALLED)  ## write a new revision from what the models say (NAME=add_new_table)
	@$(BIN)/python -m app migrate create "$$NAME"

seed: $(INSTALLED)  ## write the first books and customers where they are missing
	@$(BIN)/python -m app seed

audit: $(INSTALLED)  ## check every invariant on the database
	@$(BIN)/python -m app audit

translations: $(INSTALLED)  ## gather the pages' texts into web/translations, and compile what is translated
	@mkdir -p var web/translations
	@$(BIN)/pybabel -q extract -F pyproject.toml --project=CloudMart --add-location=file -k lazy_gettext -k lazy_ngettext:1,2 -o var/messages.pot .
	@for language in ja; do \
	  test -e web/translations/$$language || $(BIN)/pybabel -q init -i var/messages.pot -d web/translations -l $$language; done
	@$(BIN)/pybabel -q update -i var/messages.pot -d web/translations --no-fuzzy-matching --ignore-obsolete \
		--ignore-pot-creation-date --no-wrap
	@$(BIN)/pybabel -q compile -d web/translations

screenshots: $(INSTALLED_DEV)  ## take the pictures in docs/screenshots anew (needs Chromium)
	@$(BIN)/python -m tests.browser

# --strict: a version that the service does not know has not been checked, and that is an error
advisories: $(INSTALLED_DEV)  ## look every pinned version up in a registry of known vulnerabilities (network; ADVISORIES=pypi|osv)
	$(BIN)/pip-audit --strict --progress-spinner off --disable-pip --no-deps --vulnerability-service $(or $(ADVISORIES),pypi) \
		$(AUDIT_OPTIONS) -r requirements.txt -r requirements-dev.txt -r constraints.txt -r bench/requirements.txt

outdated: $(INSTALLED_DEV)  ## list the pinned versions that have a newer one, and fail if there are any (network)
	@$(BIN)/pip index versions pip >/dev/null 2>&1 || { echo "The package index does not answer."; exit 2; }
	@! $(BIN)/pip list --disable-pip-version-check --outdated --exclude pip --exclude setuptools | grep .

freeze: $(INSTALLED_DEV)  ## write constraints.txt anew from what is installed
	@{ echo "# The versions of what the direct requirements bring along; made by \`make freeze\`."; \
	   $(BIN)/pip freeze | grep -viE "^($$(sed -nE 's/^([A-Za-z0-9-]+)(\[.*\])?==.*/\1/p' requirements*.txt | tr '-' '.' | paste -sd '|'))=="; } > constraints.txt

clean:  ## remove the virtual environments and the embedded database
	rm -rf .venv $(BENCH) bench/node_modules var

$(INSTALLED): requirements.txt constraints.txt
	@test -n "$(PYTHON)" || { echo "CloudMart needs Python 3.11 or newer, as python3 on the PATH or as PYTHON=…"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing what requirements.txt names (only the first time) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(INSTALLED_DEV): requirements-dev.txt $(INSTALLED)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# a peer that cannot be had here is left out, and the table says so; `rm -r .venv-bench` has it tried again
$(INSTALLED_BENCH): requirements.txt constraints.txt bench/requirements.txt bench/package-lock.json
	@test -n "$(PYTHON)" || { echo "CloudMart needs Python 3.11 or newer, as python3 on the PATH or as PYTHON=…"; exit 2; }
	@test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	@echo "Installing what is compared into $(BENCH) (only the first time) …"
	@$(BENCH)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@sed -nE 's/^([^ #]+).*/\1/p' bench/requirements.txt | while read -r peer; do \
	  $(BENCH)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt "$$peer" || echo "$$peer cannot be installed"; done
	@npm ci --prefix bench --silent --no-audit --no-fund --ignore-scripts || echo "Restate's server cannot be installed: it comes by npm"
	@touch $@
