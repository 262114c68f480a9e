# The programs that integration tests and benchmarks compare packgate with. Included by the project's Makefile.
#   make tools                     all of them
#   make tools TOOLS='crane oras'  these
#   make test-tools                test the test registry itself
tools_dir := $(dir $(lastword $(MAKEFILE_LIST)))

.PHONY: tools test-tools
tools:
	$(tools_dir)get.sh $(TOOLS)

test-tools:
	GOWORK=off GOFLAGS=-mod=readonly go -C $(tools_dir)registry vet ./...
	GOWORK=off GOFLAGS=-mod=readonly go -C $(tools_dir)registry test ./...
