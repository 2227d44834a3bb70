# Belay. `make` alone lists the targets; README.md says more.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.NOTPARALLEL:

# where some of the tools are that a user's PATH may lack
export PATH := $(PATH):/usr/sbin:/sbin

CLANG ?= clang
arch := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
multiarch := $(shell gcc -print-multiarch 2>/dev/null)
BPF_CFLAGS ?= -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$(arch) -Wall -Werror -Ibpf -isystem /usr/include/$(multiarch)
KERNELS := 6.1 6.12 latest

tsc := node_modules/.bin/tsc
# modules and packages in a few files, since reading hundreds of small ones is most of a command's time
bundle := node_modules/.bin/rolldown --platform node --format esm --external '/\.node$$/'
biome := node_modules/.bin/biome
vitest := node node_modules/vitest/vitest.mjs
node_gyp := node node_modules/node-gyp/bin/node-gyp.js
# the headers that came with this Node: node-gyp would download them otherwise
nodedir := $(shell node -p 'require("node:path").resolve(process.execPath, "../..")' 2>/dev/null)

object := build/belay.bpf.o
# for kernels before 6.2
object_6_1 := build/belay-6.1.bpf.o
abi := agent/kernel/abi.ts
addon := native/build/Release/belay.node
program := dist/.built
act := build/act
writable := build/writable
evade := build/evasion/evade
render := build/render
next := build/next/dist/.built

##@ Everyday

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile

setup: ## install what building and testing need (packages as root, then from npm)
	@test/setup

build: setup $(object) $(object_6_1) $(abi) $(addon) $(program) $(act) $(writable) $(render) $(next) ## compile the kernel programs, the addon and the agent

demo: build ## stop a break-in inside a container, live, in a virtual machine (HOST=1: on this kernel)
	@deploy/demo/run $(if $(HOST),--host)

test: ## everything: lint, types, unit tests, an API server, the kernel suite on three kernels
	@test/all

##@ Parts

test-unit: build ## the tests that need no particular kernel (TESTS=filter)
	@$(vitest) run --project unit $(TESTS)

test-api: build ## the tests against a real API server, from KUBEBUILDER_ASSETS (TESTS=filter)
	@$(vitest) run --project api $(TESTS)

test-kernel: build ## the tests on real kernels: KERNEL=6.1, 6.12 or latest, default all (TESTS=filter, LSM=list)
	@test/vm/suite $(if $(MEM),-m $(MEM)) $(if $(TIMEOUT),-t $(TIMEOUT)) $(if $(LSM),-l $(LSM)) $(or $(KERNEL),$(KERNELS)) -- $(TESTS)

test-evasion: build $(evade) ## every way around a policy that we know of, tried: KERNEL=6.1, 6.12 or latest, default all
	@test/evasion/suite $(or $(KERNEL),$(KERNELS))

test-stays: build ## kills, upgrades and a flood of an agent at work, in full numbers: hours (KERNEL=, default 6.12)
	@test/vm/suite -t 40000 -m 6144 -e BELAY_KILLS=$(or $(KILLS),1000) -e BELAY_UPGRADES=$(or $(UPGRADES),100) \
	  -e BELAY_FLOOD=$(or $(FLOOD),10000000) $(or $(KERNEL),6.12) -- stays

chaos: build ## minutes of random trouble for an agent at work (BELAY_CHAOS_SEED= BELAY_CHAOS_SECONDS= KERNEL=, default 6.12)
	@test/vm/suite -p chaos -t $$(($${BELAY_CHAOS_SECONDS:-180} + 1800)) -e BELAY_CHAOS_SEED=$${BELAY_CHAOS_SEED:-} \
	  -e BELAY_CHAOS_SECONDS=$${BELAY_CHAOS_SECONDS:-} $(or $(KERNEL),6.12)

test-cluster: build ## the tests on a real cluster, from KUBEBUILDER_ASSETS: KERNEL=6.1 6.12 … of its node (TESTS=filter)
	@test/cluster/suite $(or $(KERNEL),6.1) -- $(TESTS)

test-delivery: build ## 5 million events through failing peers, the agent killed on the way (EVENTS= KILLS= RATE=)
	@node test/delivery/run.mjs $(or $(EVENTS),5000000) $(or $(KILLS),6) $(or $(RATE),12000)

test-native-asan: setup $(object) $(abi) $(program) ## the addon's unit tests under sanitizers, and each fuzzing target for a moment
	@test/asan
	@test/fuzz/run 1 '' 1

fuzz: build ## any bytes at all for what reads tables, events and policies: SECONDS=60 for each (TARGET=name for one)
	@test/fuzz/run $(or $(SECONDS),60) '$(TARGET)'

bench: build ## what enforcement costs, in instructions (KERNEL=, default 6.12)
	@test/bench/run $(or $(KERNEL),6.12)

bench-scale: build ## what 5000 nodes with 500 policies ask of the API server, in virtual time (NODES=, POLICIES=)
	@node --max-old-space-size=8000 test/bench/scale.mjs $(or $(NODES),5000) $(or $(POLICIES),500)

bench-k8s: build ## an agent of a real cluster: from applying to enforced, memory, processor (KERNEL=, default 6.12)
	@BELAY_BENCH=1 test/cluster/suite $(or $(KERNEL),6.12) -- bench

bench-events: build ## what events cost: records per second on this host, a live agent in virtual machines (KERNEL=, default 6.12)
	@test/bench/run-events $(or $(KERNEL),6.12)

vm: ## a command in a virtual machine: KERNEL=6.12 CMD='uname -r' (no CMD: a shell; MEM= CPUS= TIMEOUT= LSM=)
	@test/vm/vm -k '$(or $(KERNEL),latest)' $(if $(MEM),-m '$(MEM)') $(if $(CPUS),-c '$(CPUS)') \
	  $(if $(TIMEOUT),-t '$(TIMEOUT)') $(if $(LSM),-l '$(LSM)') $(VMFLAGS) \
	  -- $(if $(value CMD),bash -c "$$VM_COMMAND")
vm: export VM_COMMAND = $(value CMD)

##@ Housekeeping

lint: setup ## style and common mistakes
	@$(biome) check --error-on-warnings .

check: setup $(abi) ## types
	@$(tsc) --noEmit

manifests: build ## write what deploy/ makes from the chart and the agent's settings
	@node deploy/generate.mjs

fmt: setup ## format the sources
	@$(biome) check --write .

crds: build ## write deploy/crds from their source, agent/policy/schema
	@node deploy/crds.mjs

clean: ## remove what was built (kernels and packages stay; rm -rf .cache node_modules for those)
	rm -rf build dist native/build $(abi)

.PHONY: help setup build demo test test-unit test-api test-kernel test-evasion test-stays chaos test-cluster test-delivery test-native-asan fuzz \
  bench bench-scale bench-k8s bench-events vm lint check manifests fmt crds clean

# ---- what is built from what

$(object): cast := 1
$(object_6_1): cast := 0
$(object) $(object_6_1): $(wildcard bpf/*.bpf.c bpf/*.h)
	@mkdir -p $(@D)
	@echo "clang      $@"
	@$(CLANG) $(BPF_CFLAGS) -DHAS_RDONLY_CAST=$(cast) -c bpf/belay.bpf.c -o $@

# the layouts that both sides share, read from the object's own type information
$(abi): $(object) native/abi.mjs
	@echo "abi        $@"
	@node native/abi.mjs $(object)

$(addon): native/binding.gyp $(wildcard native/*.cpp native/*.cc native/*.h) bpf/tables.h bpf/matcher.h package-lock.json
	@[ -e '$(nodedir)/include/node/node_api.h' ] || { \
	  echo "Node's own headers are not beside it ($(nodedir)/include/node): install libnode-dev if Node came from" \
	    "Debian or Ubuntu, or Node's official archive, which has them" >&2; exit 1; }
	@echo "node-gyp   $@"
	@mkdir -p build
	@$(node_gyp) rebuild --silent --directory native --nodedir '$(nodedir)' > build/node-gyp.log 2>&1 || \
	  { tail -40 build/node-gyp.log >&2; exit 1; }

$(program): $(abi) tsconfig.json tsconfig.build.json package-lock.json $(shell find agent -name '*.ts' ! -name abi.ts 2>/dev/null)
	@echo "tsc        dist/"
	@$(tsc) -p tsconfig.build.json
	@rm -rf dist/bin
	@$(bundle) dist/cli/main.js --dir dist/bin > build/rolldown.log || { cat build/rolldown.log >&2; exit 1; }
	@chmod +x dist/bin/main.js
	@touch $@

# what the kernel tests act with; static, so that it runs in any container
$(act): test/kernel/act.c test/kernel/ask.c test/kernel/ask.h
	@mkdir -p $(@D)
	@echo "gcc        $@"
	@gcc -O2 -Wall -static -o $@ $(filter %.c,$^)

# a program whose code may be written to
$(writable): test/kernel/writable.c
	@mkdir -p $(@D)
	@echo "gcc        $@"
	@gcc -O2 -Wall -nostdlib -static -Wl,-N,--no-warn-rwx-segments -o $@ $<

# what tries to get around a policy, and the programs that it must not run
marker := gcc -O1 -Wall -nostdlib -fno-stack-protector -fcf-protection=none
$(evade): $(wildcard test/evasion/*.c test/evasion/*.h)
	@mkdir -p $(@D)
	@echo "gcc        $@"
	@$(marker) -static -o $(@D)/marker test/evasion/marker.c
	@$(marker) -static -DHARMLESS -o $(@D)/harmless test/evasion/marker.c
	@$(marker) -fPIE -pie -Wl,-dynamic-linker,/lib64/ld-linux-x86-64.so.2 -o $(@D)/marker-dynamic test/evasion/marker.c
	@$(marker) -fPIE -pie -DHARMLESS -Wl,-dynamic-linker,/lib64/ld-linux-x86-64.so.2 -o $(@D)/harmless-dynamic \
	  test/evasion/marker.c
	@$(marker) -fPIC -shared -DLIBRARY -o $(@D)/marker-library test/evasion/marker.c
	@gcc -O1 -Wall -Wno-unused-result -Wno-format-truncation -pthread -static -o $@ \
	  $(filter-out test/evasion/marker.c,$(wildcard test/evasion/*.c))

# the version after this one, to upgrade to
$(next): test/kernel/next $(object) $(object_6_1) $(addon) $(program)
	@echo "next       build/next"
	@CLANG='$(CLANG)' BUNDLE="$(bundle)" test/kernel/next $(filter-out -Ibpf,$(BPF_CFLAGS)) -Ibuild/next/bpf
	@touch $@

# renders the chart as Helm does; Debian has Go and sprig, but no Helm
$(render): test/chart/render.go
	@mkdir -p $(@D)
	@echo "go         $@"
	@GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$(CURDIR)/.cache/go go build -o $@ $<
