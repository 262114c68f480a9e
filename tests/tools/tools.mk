# The programs that integration tests and benchmarks compare packgate with. Included by the project's Makefile.
#   make tools                     all of them
#   make tools TOOLS='crane oras'  these
#   make sigstore                  a private Sigstore until Ctrl-C; it prints where its files are
#   make test-tools                test the test registry and the test plug-in themselves
tools_dir := $(dir $(lastword $(MAKEFILE_LIST)))

.PHONY: tools test-tools sigstore
tools:
	$(tools_dir)get.sh $(TOOLS)

sigstore: ## Run a private Sigstore on this machine until Ctrl-C (tests/tools/sigstore/serve.sh)
	$(tools_dir)get.sh cosign fulcio rekor rekor-v1 trillian timestamp-authority standins
	$(tools_dir)sigstore/serve.sh

test-tools:
	export GOWORK=off GOFLAGS=-mod=readonly; for m in registry kms-plugin standins trillian sigstore; do go -C $(tools_dir)$$m vet ./...; done
	GOWORK=off GOFLAGS=-mod=readonly go -C $(tools_dir)registry test ./...
