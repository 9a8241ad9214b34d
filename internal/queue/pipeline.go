package queue

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pipelined sends scripts that are asked for at the same time to Redis together:
// asynq moves one task with one script. It waits for nobody: while none is under way,
// a script is sent at once; those that come meanwhile go together. Who stops waiting
// leaves nothing behind: a Redis that hangs would otherwise fill the memory.
type pipelined struct {
	redis.UniversalClient

	mu      sync.Mutex
	waiting []*scriptCall
	busy    bool
}

type scriptCall struct {
	sha  string
	keys []string
	args []any
	cmd  *redis.Cmd
	done chan struct{}
}

// pipelineMax is how many scripts are sent together.
const pipelineMax = 128

// EvalSha implements redis.Scripter.
func (p *pipelined) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	call := &scriptCall{sha: sha, keys: keys, args: args, done: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, call)
	if !p.busy {
		p.busy = true
		go p.work()
	}
	p.mu.Unlock()
	select {
	case <-call.done:
		return call.cmd
	case <-ctx.Done():
		p.leave(call)
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(ctx.Err())
		return cmd
	}
}

// work sends scripts until none waits.
func (p *pipelined) work() {
	for calls := p.next(); calls != nil; calls = p.next() {
		p.send(calls)
	}
}

// next takes what has come meanwhile; nil: nothing, and the work is over.
func (p *pipelined) next() []*scriptCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.waiting), pipelineMax)
	if n == 0 {
		p.busy = false
		return nil
	}
	calls := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	return calls
}

func (p *pipelined) leave(call *scriptCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, call); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
}

func (p *pipelined) send(calls []*scriptCall) {
	ctx, cancel := context.WithTimeout(context.Background(), responseTimeout)
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
