# Billow: one line a thing to do. `make demo` and `make test` set up a bare Debian or Ubuntu machine with Rust and Node.

CARGO ?= cargo
BINARY := target/release/billow
RUNS ?= 5
SEEDS ?= 1000
SEED ?= 1

.PHONY: help
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

.PHONY: setup
setup:           ## install what is missing (said before it is done)
	@tools/setup

.PHONY: web
web: setup       ## build the web client into web/dist
	@cd web && npm run --silent build

.PHONY: build
build: web       ## the release binary, client included: target/release/billow
	$(CARGO) build --release --locked -p billow

.PHONY: demo
demo: build      ## two organisations on this machine, federating; Ctrl-C stops them
	$(BINARY) demo

.PHONY: test
test: web        ## all tests, the real parts included
	@tools/test

.PHONY: check
check:           ## formatting, lints, types: quick
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	cd web && npm run --silent check

.PHONY: types
types:           ## write web/src/wire/messages.ts anew from the server's messages
	UPDATE=1 $(CARGO) test -q -p billow-server types_are_fresh

.PHONY: crash
crash:           ## kill -9 a server in mid-replay, RUNS times (50 is the long run)
	BILLOW_KILLS=$(RUNS) $(CARGO) test --locked -p billow --test two_servers kill -- --nocapture

.PHONY: reliability
reliability: setup ## the suites in their large sizes; writes docs/reliability.md (under 40 minutes)
	@tools/reliability

.PHONY: lab
lab: setup       ## the sentences of the federation page, S1 to S63, each with what shows it
	@BILLOW_SETUP=test tools/setup
	@tools/lab

.PHONY: sim
sim:             ## SEEDS worlds of servers, faults and a hostile server, from SEED on
	$(CARGO) run --release --locked -p billow-sim -- --seeds $(SEEDS) --seed $(SEED)

.PHONY: planted
planted:         ## bugs on purpose, one after the other: the simulator or a named test must find each
	@tools/planted

.PHONY: picture
picture:         ## the README's picture, out of the browsers' test
	cd web && npm run --silent e2e
	mkdir -p docs/pictures && cp target/e2e/two-servers/together.png docs/pictures/client.png

.PHONY: bench
bench: build     ## speed: documents, keystrokes, saturation, beside their bounds and peers
	@tools/bench

.PHONY: clean
clean:           ## remove what was built
	rm -rf target web/dist web/node_modules bench/target fuzz/target
