# What people do with Plantline on a control node. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

# The inventory that site, verify, quality, … work on, and real machine data to use in place of the simulator.
INVENTORY ?= inventories/demo
DATA ?=
# SCALE=1: the benchmark with up to a million machines, too. BENCH: its options, for a part of it.
SCALE ?=
BENCH ?=
PYTHON ?= python3

BIN := .venv/bin
TRAIN := .venv-train/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.PHONY: help prerequisites venv training depot secrets hosts down site verify preflight status status-page report collect probe demo quality bench bench-resources drill-certificates drill-stream drill-upgrades test unit drill-moving-in molecule lint docs dashboards lock

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

demo: venv training  ## three hosts on this machine, the whole plant on them, machine data through it [DATA=dir]
	python tools/demo.py --inventory $(INVENTORY) $(if $(DATA),--data $(DATA))

down:  ## remove all that demo made: hosts, network, volume, image, keys
	@if [ -x $(BIN)/python ]; then python tools/hosts.py down $(INVENTORY) --with-image; fi

prerequisites:  ## Debian packages the control node lacks
	@tools/prerequisites.sh

# pip's wheel of the lock is checked by hash; the project itself is linked, not copied.
venv: .venv/.complete  ## the control node's Python environment
.venv/.complete: requirements.txt pyproject.toml | prerequisites
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

training: .venv-train/.complete  ## the Python environment that models are trained in
.venv-train/.complete: flink_jobs/requirements-train.txt pyproject.toml | prerequisites
	$(PYTHON) -m venv .venv-train
	$(TRAIN)/pip install --quiet --disable-pip-version-check --require-hashes -r flink_jobs/requirements-train.txt
	$(TRAIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# What the benchmark compares the jobs with.
.venv-bench/.complete: tests/bench/stream/requirements-bench.txt | prerequisites
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

depot: venv  ## fetch every artifact once; needs the network only for what is missing
	python tools/depot.py fill

hosts: venv depot  ## only the test hosts
	python tools/hosts.py up $(INVENTORY)

preflight: venv  ## what would stand in the way of site: inventory, variables, hosts
	ansible-playbook playbooks/preflight.yml -i $(INVENTORY)

secrets: venv  ## the plant's passwords, encrypted; only what is missing
	python tools/vault.py make $(INVENTORY)

site: venv depot secrets  ## ansible-playbook site.yml on INVENTORY
	ansible-playbook site.yml -i $(INVENTORY)

verify: venv  ## ask the running plant what a client would see
	ansible-playbook playbooks/verify.yml -i $(INVENTORY)

status: venv  ## one screen: what is wrong with the plant, first of all
	@python -m ops status --inventory $(INVENTORY)

status-page: venv  ## out/status.html: the same for a wall, from Prometheus
	@python tools/status_page.py --inventory $(INVENTORY)

report: venv  ## out/report.html: what the machines did since yesterday
	python -m flink_jobs.tools.report --plant $(INVENTORY)/group_vars/all/plant.yml

collect: venv  ## a support bundle in out/: logs, settings, states of all hosts, without secrets
	@python -m ops collect --inventory $(INVENTORY)

probe: venv  ## disks, and network and clocks between all pairs of hosts
	@python -m ops probe --inventory $(INVENTORY)

quality: venv  ## F1, FAR and MAR on the SKAB files under DATA, through Kafka and Flink
	@test -n "$(DATA)" || { echo "make quality needs DATA=<folder that holds skab/data>"; exit 2; }
	python -m flink_jobs.tools.quality --data $(DATA) --config out/client.conf \
	  --plant $(INVENTORY)/group_vars/all/plant.yml --out out/quality.json

# What is asked for in part is no table for the documentation.
bench: venv training depot .venv-bench/.complete  ## the stream beside loops and frameworks, on a host of its own [SCALE=1]
	python -m tests.bench.stream $(or $(BENCH),--document --parts throughput latency decoding $(if $(SCALE),scale))

bench-resources: venv  ## how long a thousand topics, and users, rules and quotas take on INVENTORY
	python -m tests.bench.resources --inventory $(INVENTORY)

drill-certificates: venv training depot  ## certificates, passwords and the CA change while readings pass
	pytest -ra --durations=15 tests/drills/test_certificates.py

test: venv training depot lint  ## every test: linters, units, then the live ones on a plant of their own
	$(TRAIN)/pytest -q tests/training
	pytest -ra --durations=15

unit: venv training depot  ## the tests that need no hosts
	$(TRAIN)/pytest -q tests/training
	pytest tests/unit

drill-stream: venv training depot  ## a million readings while processes are killed, and while Kafka is away for 20 minutes
	pytest -ra --durations=15 tests/drills/test_stream.py

drill-upgrades: venv training depot  ## jobs upgraded with their state, without it, and after it was lost
	pytest -ra --durations=15 tests/drills/test_upgrades.py

drill-moving-in: venv depot  ## a plaintext Kafka becomes a secured one under load, on test hosts of its own
	pytest -ra -s tests/drills/test_moving_in.py

molecule: venv training depot  ## the Molecule scenarios, on test hosts of their own
	molecule test -s host
	molecule test -s default

lint: venv  ## ansible-lint (production), yamllint, ruff, mypy: no skips
	ruff check .
	ruff format --check .
	mypy
	yamllint .
	ansible-lint

docs: venv  ## the reference pages, and the plant model's keys
	python tools/reference.py

dashboards: venv  ## grafana/json from grafana/dashboards
	python -m grafana.build

lock: venv  ## make the locks again after a change of requirements.in
	uv pip compile -q --generate-hashes --python-version 3.11 --no-header requirements.in -o requirements.txt
	uv pip compile -q --generate-hashes --python-version 3.11 --no-header \
	  --no-emit-package apache-flink-libraries flink_jobs/requirements.in -o flink_jobs/requirements.txt
	uv pip compile -q --generate-hashes --python-version 3.11 --no-header \
	  flink_jobs/requirements-train.in -o flink_jobs/requirements-train.txt
	uv pip compile -q --generate-hashes --python-version 3.11 --no-header \
	  tests/bench/stream/requirements-bench.in -o tests/bench/stream/requirements-bench.txt
