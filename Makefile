# packgate: every command that the README, CONTRIBUTING and CI use.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help quickstart quickstart-down build image test test-times test-fast test-interop test-chart test-cluster lint generate check-generated coverage bench figures deny clean

include tests/tools/tools.mk
include tests/cluster/cluster.mk

export PATH := $(shell tests/tools/get.sh --bin):$(PATH)

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

quickstart: ## packgate in a real Kubernetes on this machine, from nothing; leaves it running
	@quickstart/quickstart.sh up

quickstart-down: ## Remove everything that it made
	@quickstart/quickstart.sh down

build: ## Build the release binary: target/release/packgate
	cargo build --release --locked

image: ## Make the container image without a container engine; prints the folder of the OCI layout
	@tests/cluster/image.sh

test: ## Every test, and how many there were. What CI runs
	tests/all.sh test-fast test-interop test-chart test-cluster

test-times: ## Where the time of the last make test went
	@tests/times.py "$${CARGO_TARGET_DIR:-target}"/test-times/*

test-fast: ## Unit and integration tests that need nothing but Rust; three to four minutes when warm
	cargo test --locked --lib --bins --test it -- --skip interop:: --skip chart::
	cargo test --locked --doc

test-interop: tools ## Tests against cosign, oras, crane, umoci, real registries and a private Sigstore
	PACKGATE_REQUIRE_TOOLS=1 cargo test --locked --test it interop:: -- --test-threads=2

test-chart: ## Tests of the helm chart, with helm
	tests/cluster/env/build.sh helm
	PACKGATE_REQUIRE_TOOLS=1 cargo test --locked --test it chart::

test-cluster: ## Tests in a real Kubernetes of their own; TESTS='minimal smoke' for some. Skipped where none can run
	tests/cluster/test.sh $(TESTS)

lint: check-generated ## rustfmt, clippy with warnings as errors; tests/mutations.py follows the code; shellcheck and helm lint where they are
	cargo fmt --check
	tests/mutations.py --check
	cargo clippy --locked --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x tests/*.sh tests/tools/*.sh tests/tools/*/*.sh tests/cluster/*.sh tests/cluster/env/*.sh tests/cluster/env/*/*.sh quickstart/*.sh benches/*.sh .ci/run; else echo "shellcheck is not installed: shell scripts were not checked"; fi
	@if helm=$$(. tests/cluster/env/env.sh && command -v helm); then "$$helm" lint --quiet --strict charts/packgate; else echo "helm is not there (make cluster-build PROGRAMS=helm): the chart was not linted"; fi

generate: ## Write the generated files: crds/, the chart's copies of them and its roles, docs/cli.md
	cargo run --quiet --locked -- crds --out-dir crds
	rm -rf charts/packgate/files/crds && mkdir -p charts/packgate/files && cp -R crds charts/packgate/files/crds
	cargo run --quiet --locked -- rbac --chart > charts/packgate/templates/rbac.yaml
	tests/generate-cli-docs.sh > docs/cli.md

check-generated: ## Fail if a generated file is stale
	cargo run --quiet --locked -- crds --check crds
	diff -ru crds charts/packgate/files/crds || { echo "charts/packgate/files/crds is stale: make generate"; exit 1; }
	cargo run --quiet --locked -- rbac --chart --check charts/packgate/templates/rbac.yaml
	diff -u docs/cli.md <(tests/generate-cli-docs.sh) || { echo "docs/cli.md is stale: make generate"; exit 1; }

figures: ## The shape of the code: lines, functions, names, circles (tests/figures.py --list names them)
	@tests/figures.py

coverage: ## Line coverage, what the binary runs included (needs cargo-llvm-cov)
	tests/coverage.sh

bench: tools ## The benchmarks with their peers
	benches/run.sh

.PHONY: bench-cluster
bench-cluster: ## A PackedBundle in a real cluster, beside two empty Jobs
	benches/cluster.sh

.PHONY: bench-webhook
bench-webhook: ## Verdicts of the webhook in a real cluster, beside a webhook that does nothing
	benches/webhook.sh

.PHONY: bench-hostile
bench-hostile: ## Hostile input of one namespace for three minutes, and what others notice of it; fails if a bound is broken
	benches/hostile.sh

deny: ## Licences, sources and duplicate bans of all dependencies
	cargo deny --locked check licenses bans sources

clean: ## Remove what was built
	cargo clean

.PHONY: mutations
mutations: ## Delete one check at a time and see the named test fail
	tests/mutations.py

.PHONY: fuzz
SECONDS_EACH ?= 30
fuzz: ## Fuzz every parser of outside bytes, SECONDS_EACH=30 each; the first time it builds for ten minutes
	SECONDS_EACH=$(SECONDS_EACH) tests/fuzz.sh
