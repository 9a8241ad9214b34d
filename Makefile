# The project's commands. `make help` lists them.

.PHONY: help run smoke test check check-openapi build faults compose-test bench

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

# `go run` exits with 1 when interrupted, so build first.
run: ## run all of Postcard on this machine, until Ctrl-C
	@go build -o bin/dev ./cmd/dev && exec bin/dev

smoke: ## start everything on free ports, send one simulated message, stop
	@go run ./cmd/dev -smoke

# bcrypt and what reads and writes pictures share no memory between goroutines, and are ten
# times as slow with the race detector.
without_race = golang.org/x/crypto/blowfish golang.org/x/image/... image/... compress/... hash/... ./internal/picture

test: ## run every test, on its own servers and browser; installs them if missing
	@go run ./cmd/dev -install
	race=$$(go run ./cmd/dev -race-flag) && go test $$race $(without_race:%=-gcflags=%=-race=false) -shuffle=on -timeout 30m ./...

check: ## linters (.golangci.yml), including formatting, and tidy modules
	go tool -modfile=tools/go.mod golangci-lint run --allow-parallel-runners
	go vet -tags failpoints ./internal/failpoint
	go mod tidy -diff
	go mod verify

check-openapi: ## lint the OpenAPI description, and compile generated clients; needs Node.js
	@tools/check-openapi

build: ## build the programs into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags=-s -o bin/ ./cmd/api ./cmd/worker ./cmd/postcard ./cmd/plivosim

faults: ## every fault test three times, then 20,000 messages under random faults; half an hour
	go test -count=3 -timeout 30m ./internal/e2e
	go test -tags soak -count=1 -timeout 40m -run 'TestSoak|TestFlushedRedisWithTenThousandMessages|WrongClock|DifferentClocks|TestHealthyLongBacklog|TestFullRedisThatEvicts' -v ./internal/e2e

compose-test: ## run docker-compose.yml, cut each service off under load, compare with the ledger; 15 minutes; CUT=10s for shorter cuts
	@go build -o bin/composetest ./cmd/composetest && exec bin/composetest $(if $(CUT),-cut $(CUT)) $(if $(RATE),-rate $(RATE))

bench: ## measure throughput and latency, compared with Postgres and asynq alone; an hour
	go run ./cmd/bench -json bench.json
