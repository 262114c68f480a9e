# The test cluster (tests/cluster/env/README.md). Included by the project's Makefile.
#   make cluster-up MODE=control-plane    without pods
#   make cluster-up MODE='node sigstore'  with a private Sigstore
#   make cluster-smoke SMOKE='job'        these smoke tests only
#   make cluster-build PROGRAMS=helm      these programs only
cluster_env := $(dir $(lastword $(MAKEFILE_LIST)))env

.PHONY: cluster-build cluster-up cluster-down cluster-shell cluster-smoke cluster-lint
cluster-build: ## Build the test cluster's programs; about 20 minutes the first time
	$(cluster_env)/build.sh $(PROGRAMS)

cluster-up: ## Bring up a real single-node Kubernetes with two registries, in private namespaces
	$(cluster_env)/up.sh $(MODE)

cluster-down: ## Remove it, and prove that nothing of it is left
	$(cluster_env)/down.sh
	@if [ "$${PACKGATE_USE_CLUSTER:-0}" != 1 ]; then $(cluster_env)/leftovers.sh; fi

cluster-shell: ## A shell inside of the test cluster, with kubectl, helm and crane
	@$(cluster_env)/exec.sh bash

cluster-smoke: ## Test the test cluster
	$(cluster_env)/smoke/all.sh $(SMOKE)

cluster-lint: # of its scripts and Go programs
	shellcheck -x $(cluster_env)/*.sh $(cluster_env)/*/*.sh
	export GOWORK=off GOFLAGS=-mod=readonly; \
	for m in accesslog probe; do go -C $(cluster_env)/$$m vet ./... && go -C $(cluster_env)/$$m test ./... || exit 1; done
