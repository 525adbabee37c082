# Everything that is done with stateproxy, one word each. `make help` lists them.

# Tools, outside go.mod. staticcheck is run if it is installed, or installed
# into TOOLS by `make tools`.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   = golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
TOOLS      ?= $(CURDIR)/.tools

# The schemas of Kubernetes' API, from the tool that publishes them as files, and
# the release to check against: the oldest that knows all that deploy/kubernetes
# uses.
SCHEMAS = sigs.k8s.io/kubectl-validate@v0.0.4
RELEASE = 1.30

# Known vulnerabilities of Go and its modules, as of the date in the version.
# `go list -m golang.org/x/vulndb@latest` names the newest.
VULNS = golang.org/x/vulndb@v0.0.0-20261105234957-e22db6528018

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
EPOCH   ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1)
ENGINE  ?= docker
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
FUZZTIME ?= 10s
COUNT    ?= 1
CHECKS   ?= 20000

.PHONY: help build test race hostile histories fuzz lint vuln cover platforms dist wine image image-check tools clean \
	bench bench-peers bench-observe bench-memory bench-growth bench-redis bench-flood bench-report

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/stateproxy
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/stateproxy ./cmd/stateproxy

test: ## all checks that this machine can do; says what was left out
	./scripts/test

race: ## the Go tests under the race detector, COUNT times
	go test -race -shuffle=on -count=$(COUNT) ./...

hostile: ## hostile clients beside a well-behaved farm for DURATION (10m)
	./scripts/hostile

histories: ## play CHECKS random histories of handoffs, others than the tests do
	go test ./proxy -run TestHistories -timeout 2h -rapid.checks=$(CHECKS) -rapid.seed=0 -rapid.nofailfile

fuzz: ## run every fuzz target for FUZZTIME
	./scripts/fuzz $(FUZZTIME)

bench: ## Go benchmarks, compared with the last release if benchstat is there
	TOOLS=$(TOOLS) COUNT=6 ./scripts/bench

bench-peers: ## CPU and throughput beside HAProxy, nginx, plain Go (ROUNDS, DURATION)
	./scripts/bench-peers

bench-observe: ## what metrics and all other observation cost a request
	./scripts/bench-observe

bench-memory: ## memory by connection and body, sockets per backend
	./scripts/bench-memory

bench-growth: ## more backends, connections, sessions
	./scripts/bench-growth

bench-redis: ## the state server beside Redis, and expiry of a million sessions
	./scripts/bench-redis

bench-flood: ## what one address with 10,000 connections does to the others
	./scripts/bench-flood

bench-report: ## write tables and drawings of docs/performance.md
	./scripts/bench-report

lint: ## gofmt, vet, staticcheck
	./scripts/lint

vuln: ## known vulnerabilities that the program reaches (VULNDB: URL of another database)
	./scripts/vuln

cover: ## test coverage by function
	go test -coverprofile=cover.out ./... && go tool cover -func=cover.out

platforms: ## build for every platform that is supported
	./scripts/platforms

dist: ## reproducible archives for every platform in dist/, with checksums and SBOM
	./scripts/dist

wine: ## run the Windows binary under wine
	./scripts/wine-test

# What podman and buildah take for an image by themselves has no health check.
image: ## build the container image, with ENGINE (docker, podman or buildah)
	BUILDAH_FORMAT=docker $(ENGINE) build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) \
		--build-arg SOURCE_DATE_EPOCH=$(EPOCH) -t stateproxy:$(VERSION) .

image-check: ## build the image without an engine or registry, and run it confined (buildah, root)
	./scripts/check-image

tools: ## install the tools into TOOLS
	GOBIN=$(TOOLS) go install $(STATICCHECK)
	GOBIN=$(TOOLS) go install $(BENCHSTAT)
	./scripts/fetch $(SCHEMAS) pkg/openapiclient/builtins/$(RELEASE) $(TOOLS)/kubernetes
	echo $(RELEASE) >$(TOOLS)/kubernetes/release
	GOBIN=$(TOOLS) go install $(GOVULNCHECK)
	./scripts/fetch $(VULNS) data/osv $(TOOLS)/vulns

clean: ## remove what was built
	rm -rf bin dist cover.out
