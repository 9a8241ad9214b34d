package queue

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pipelined sends scripts that are asked for at the same time to Redis together:
// asynq enqueues one task with one script. It waits for nobody: while none is
// under way, a script is sent at once; those that come meanwhile go together.
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
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(ctx.Err())
		return cmd
	}
}

// work sends what waits until nothing does.
func (p *pipelined) work() {
	for {
		p.mu.Lock()
		if len(p.waiting) == 0 {
			p.busy = false
			p.mu.Unlock()
			return
		}
		n := min(len(p.waiting), pipelineMax)
		calls := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		p.mu.Unlock()
		p.send(calls)
	}
}

func (p *pipelined) send(calls []*scriptCall) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	pipeline := p.Pipeline()
	for _, call := range calls {
		call.cmd = pipeline.EvalSha(ctx, call.sha, call.keys, call.args...)
	}
	_, _ = pipeline.Exec(ctx) // each command has its own error
	for _, call := range calls {
		close(call.done)
	}
}
