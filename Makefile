# Everything a contributor types. `make help` lists it.

# The simd experiment makes ONNX Runtime's and the stock Go backend's products
# several times faster; one setting for build, run and test keeps one build cache.
export GOEXPERIMENT := simd
export CGO_ENABLED := 1

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
DEMO_DATA ?= out/demo

GPU         ?= out/gpu

.PHONY: help build test vet demo sweep-kill sweep-scale gpu-build gpu-bench clean ci

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: ## programs into bin/
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

test: vet ## every test (references are read from ../shared where present)
	$(GO) test -timeout 15m ./...

vet: ## static checks
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt needed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...

demo: build ## the whole paper on the sample corpus, to its report
	$(BIN)/esclab run demo --data $(DEMO_DATA) --report $(DEMO_DATA)/report

sweep-kill: ## a sweep killed five times at random ends with the same table
	ESCLAB_TEST_KILLS=5 $(GO) test ./cmd/esclab -run TestSweepEndsWithTheSameTable -count 1 -v -timeout 20m

sweep-scale: ## 2,000 trivial cells: history, memory, throughput
	ESCLAB_TEST_CELLS=2000 $(GO) test ./workers -run TestSweepOfManyCells -count 1 -v -timeout 60m

gpu-build: ## what a GPU host without Go needs, out/gpu.tar.gz
	@mkdir -p $(GPU)/lm
	$(GO) build -ldflags '$(LDFLAGS)' -o $(GPU)/ ./cmd/esclab-worker
	$(GO) test -c -ldflags '-s -w' -o $(GPU)/lm/lm.test ./lm
	cp -r bench/gpu/* $(GPU)/
	tar czf $(GPU).tar.gz --exclude=results -C $(dir $(GPU)) $(notdir $(GPU))
	@du -h $(GPU).tar.gz

gpu-bench: gpu-build ## tests and benchmarks on this machine's card, below ten minutes
	$(GPU)/run.sh $(GPU)/results

ci: ## what CI runs
	bash .ci/run

clean: ## remove programs and demo results
	rm -rf $(BIN) out
