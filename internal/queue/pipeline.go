package queue

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// pipelined sends scripts that are asked for at the same time to Redis together:
// asynq moves one task with one script. It waits for nobody: while none is under way,
// a script is sent at once; those that come meanwhile go together.
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
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		defer p.next()
		return p.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
	call := &scriptCall{sha: sha, keys: keys, args: args, done: make(chan struct{})}
	p.waiting = append(p.waiting, call)
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

// next sends what has come meanwhile.
func (p *pipelined) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.busy = false
		return
	}
	n := min(len(p.waiting), pipelineMax)
	calls := p.waiting[:n:n]
	p.waiting = p.waiting[n:]
	go func() {
		defer p.next()
		p.send(calls)
	}()
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
