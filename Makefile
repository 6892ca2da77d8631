# What a developer runs. Every target works in a fresh clone on Debian 12 that has Rust.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# One profile for everything, so that tests, benchmarks and the binary share what was compiled.
CARGO_FLAGS := --release --locked

# For `make run ARGS="--data-dir /srv/muniment"`, `make bench ROWS=journal,intake QUICK=1`.
ARGS ?=
ROWS ?=
QUICK ?=

.PHONY: help setup run test check bench bench-gateway interop compose

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what the machine lacks (compilers, libraries, Postgres, Java, Kafka's jars); Rust itself is asked for
	@scripts/setup

run: ## Set up, build and start Muniment embedded in ./muniment-data
	@scripts/setup build
	@cargo build $(CARGO_FLAGS) --bin muniment
	@exec cargo run --quiet $(CARGO_FLAGS) -- serve $(ARGS)

test: ## Run every test, with real Kafka and Postgres on loopback
	@scripts/setup
	@scripts/test $(ARGS)

check: ## Formatting, lints, documentation, licences, scripts, the Compose file
	@scripts/setup
	@scripts/check

bench: ## Print the table of figures beside the raw engines' (ROWS=journal,intake for some, QUICK=1 for short runs)
	@scripts/setup
	@scripts/with-engines cargo bench --locked --bench table -- $(if $(ROWS),--rows $(ROWS)) $(if $(QUICK),--quick) $(ARGS)

bench-gateway: ## The gateway beside a real kube-apiserver, asked in turn by one load generator (ROUNDS, COUNT, CLIENTS)
	@scripts/setup
	@benches/gateway/run

interop: ## A real kube-apiserver posts to Muniment while it is killed; its log and ours are compared
	@scripts/setup
	@tests/interop/run

compose: ## Check docker-compose.yml, and start it where a Docker daemon runs
	@scripts/compose
