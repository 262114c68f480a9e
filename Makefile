# packgate: every command that the README, CONTRIBUTING and CI use.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build test test-fast test-interop lint generate check-generated coverage bench deny clean

include tests/tools/tools.mk
include tests/cluster/cluster.mk

export PATH := $(shell tests/tools/get.sh --bin):$(PATH)

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

build: ## Build the release binary: target/release/packgate
	cargo build --release --locked

test: test-fast test-interop ## Every test. What CI runs

test-fast: ## Unit and integration tests that need nothing but Rust; under two minutes when warm
	cargo test --locked

test-interop: tools ## Tests against cosign, oras, crane, umoci and real registries
	PACKGATE_REQUIRE_TOOLS=1 cargo test --locked --test it interop:: -- --test-threads=2

lint: check-generated ## rustfmt, clippy with warnings as errors, shellcheck where it is installed
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x tests/*.sh tests/tools/*.sh benches/*.sh .ci/run; else echo "shellcheck is not installed: shell scripts were not checked"; fi

generate: ## Write the generated files: crds/, docs/cli.md
	cargo run --quiet --locked -- crds --out-dir crds
	tests/generate-cli-docs.sh > docs/cli.md

check-generated: ## Fail if a generated file is stale
	cargo run --quiet --locked -- crds --check crds
	diff -u docs/cli.md <(tests/generate-cli-docs.sh) || { echo "docs/cli.md is stale: make generate"; exit 1; }

coverage: ## Line coverage, what the binary runs included (needs cargo-llvm-cov)
	tests/coverage.sh

bench: tools ## The benchmarks with their peers
	benches/run.sh

deny: ## Licences, sources and duplicate bans of all dependencies
	cargo deny --locked check licenses bans sources

clean: ## Remove what was built
	cargo clean

.PHONY: mutations
mutations: ## Delete one check at a time and see the named test fail
	tests/mutations.py

.PHONY: fuzz
SECONDS_EACH ?= 30
fuzz: ## Fuzz every parser of outside bytes, SECONDS_EACH=30 each (needs cargo-fuzz and a nightly toolchain)
	cd fuzz && for target in $$(cargo +nightly fuzz list); do \
	  mkdir -p corpus/$$target && cargo +nightly fuzz run $$target corpus/$$target seeds/$$target -- -max_total_time=$(SECONDS_EACH); done
