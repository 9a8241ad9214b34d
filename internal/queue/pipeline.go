package queue

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pipelinedClient is a Redis client that sends concurrent scripts in one
// pipeline, since asynq runs a script for each task. A lone script is sent
// immediately; scripts that arrive while others are being sent go together next.
// A canceled call is removed, so that a Redis that does not respond cannot fill
// the memory.
type pipelinedClient struct {
	redis.UniversalClient

	mu      sync.Mutex
	waiting []*scriptCall
	running bool // a goroutine is sending
}

type scriptCall struct {
	sha  string
	keys []string
	args []any
	cmd  *redis.Cmd
	done chan struct{} // closed when cmd has its result
}

// maxPipelineSize is how many scripts are sent together.
const maxPipelineSize = 128

// callTimeout limits how long a pipeline takes, so that the next can be sent: long
// enough for two attempts to open a connection and to learn why that fails.
const callTimeout = 2*dialTimeout + responseTimeout

// EvalSha implements redis.Scripter.
func (p *pipelinedClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	call := &scriptCall{sha: sha, keys: keys, args: args, done: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, call)
	if !p.running {
		p.running = true
		go p.run()
	}
	p.mu.Unlock()
	select {
	case <-call.done:
		return call.cmd
	case <-ctx.Done():
		p.remove(call)
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(ctx.Err())
		return cmd
	}
}

// run sends scripts until none waits.
func (p *pipelinedClient) run() {
	for calls := p.next(); calls != nil; calls = p.next() {
		p.send(calls)
	}
}

// next removes and returns the calls to send next. If there are none, it returns
// nil and ends the run.
func (p *pipelinedClient) next() []*scriptCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.waiting), maxPipelineSize)
	if n == 0 {
		p.running = false
		return nil
	}
	calls := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	return calls
}

func (p *pipelinedClient) remove(call *scriptCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, call); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
}

func (p *pipelinedClient) send(calls []*scriptCall) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if len(calls) == 1 {
		calls[0].cmd = p.UniversalClient.EvalSha(ctx, calls[0].sha, calls[0].keys, calls[0].args...)
	} else {
		pipeline := p.Pipeline()
		for _, call := range calls {
			call.cmd = pipeline.EvalSha(ctx, call.sha, call.keys, call.args...)
		}
		_, _ = pipeline.Exec(ctx) // each command has its own error
	}
	for _, call := range calls {
		close(call.done)
	}
}
