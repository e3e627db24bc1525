# Targets for people and for CI. `make` alone lists them.

GO      ?= go
TOOL    := $(GO) tool -modfile=tools/go.mod
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
WORKERS ?= 3

# Only root on Linux can run containers. Elsewhere the tests that need them skip and say so.
CAN_CONTAIN := $(shell [ "$$(uname -s)" = Linux ] && [ "$$(id -u)" = 0 ] && echo yes)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/controller, bin/worker, bin/mcpfleet and bin/demo-server, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/controller ./cmd/worker ./cmd/mcpfleet ./cmd/demo-server

.PHONY: run
run: build ## run a local cluster with the demo server and 3 workers, until Ctrl-C
	bin/mcpfleet up --workers $(WORKERS)

.PHONY: host
host: ## on Linux as root: install podman, Docker and node from Debian's packages, and build the images that tests run
ifeq ($(CAN_CONTAIN),yes)
	deploy/images/setup-host.sh
	deploy/images/build.sh
endif

# Two packages at a time, also on bigger machines: many tests start clusters and containers, and all share one podman.
.PHONY: test
test: host ## run every test that can run here, with -race
ifeq ($(CAN_CONTAIN),yes)
	CONTAINERS_CONF="$${CONTAINERS_CONF:-$(CURDIR)/deploy/images/containers.conf}" $(GO) test -race -count=1 -p 2 -timeout 20m ./...
else
	$(GO) test -race -count=1 -p 2 -timeout 20m ./...
endif

.PHONY: interop
interop: ## compare the fleet with the official TypeScript client over some 35 real servers from npm
	$(GO) test -count=1 -timeout 30m -v ./test/interop -servers=all

.PHONY: lint
lint: ## gofmt, vet, golangci-lint, no dead code, buf lint, a compatible wire format, and generated code up to date
	@files=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		if [ -n "$$files" ]; then echo "gofmt these:"; echo "$$files"; exit 1; fi
	$(GO) vet ./...
	cd test/bench/gateways && $(GO) vet ./...
	cd test/conformance/clients/gosdks && $(GO) vet ./... && $(GO) vet -modfile=v1.7.mod ./gosdk
	$(TOOL) golangci-lint run
	@dead=$$($(TOOL) deadcode ./cmd/...) && \
		if [ -n "$$dead" ]; then echo "only tests call these:"; echo "$$dead"; exit 1; fi
	$(TOOL) buf lint
	$(TOOL) buf breaking --against proto/released.binpb
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(TOOL) buf generate -o "$$dir" && \
		if ! diff -r "$$dir/internal/fleetpb" internal/fleetpb; then echo "internal/fleetpb is not what proto/ says: make generate"; exit 1; fi

.PHONY: generate
generate: ## regenerate internal/fleetpb from proto/ with the tools that tools/go.mod pins
	$(TOOL) buf generate

.PHONY: bench
bench: build ## measure the call path against a naive chain; writes docs/BENCHMARKS.md
	cd test/bench/gateways && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CURDIR)/bin/bench-gateways .
	CGO_ENABLED=0 $(GO) run ./test/bench -report docs/BENCHMARKS.md

.PHONY: sim
sim: ## simulate the autoscaling policy, and those of others; writes the tables and plots of docs/AUTOSCALING.md
	@$(GO) run ./test/sim -doc docs/AUTOSCALING.md -plots docs/autoscaling

.PHONY: scale
scale: ## measure plans at scale and a controller with 200 simulated workers; writes docs/BENCHMARKS.md
	$(GO) test -count=1 -timeout 30m -v ./test/scale -workers=200 -servers=100 -replicas=20 -idle=20s -report=$(CURDIR)/docs/BENCHMARKS.md

.PHONY: images
images: host ## build the images that tests and the Compose file run, without any registry

.PHONY: clean
clean: ## remove what build has built
	rm -rf bin
