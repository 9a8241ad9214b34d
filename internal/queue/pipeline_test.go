package queue

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postcard-mms/postcard/internal/mms"
	"github.com/postcard-mms/postcard/internal/testkit"
)

func TestHangingRedisBlocksNobodyAndKeepsNoScripts(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testkit.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	var frozen sync.RWMutex
	u.Host = startProxy(t, u.Host, &frozen)
	c, err := Connect(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := NewClient(c)
	enqueue := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		return client.Enqueue(ctx, mms.Task{MessageID: uuid.New(), Generation: 1, Priority: mms.Normal})
	}
	if err := enqueue(time.Minute); err != nil {
		t.Fatal(err)
	}

	frozen.Lock()
	var group sync.WaitGroup
	for range 3 * maxPipelineSize {
		group.Go(func() {
			if enqueue(50*time.Millisecond) == nil {
				t.Error("Enqueue() succeeded without a response")
			}
		})
	}
	group.Wait()
	p := client.redis.(*pipelinedClient)
	p.mu.Lock()
	waiting := len(p.waiting)
	p.mu.Unlock()
	if waiting > 0 {
		t.Errorf("got %d scripts still waiting, want 0", waiting)
	}
	frozen.Unlock()
	testkit.Eventually(t, "the queue accepts tasks again", func() bool { return enqueue(time.Second) == nil })
}

// startProxy forwards TCP connections to a target, but blocks while frozen is
// locked.
func startProxy(t *testing.T, target string, frozen *sync.RWMutex) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	forward := func(to, from net.Conn) {
		defer to.Close()
		for buffer := make([]byte, 64<<10); ; {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			frozen.RLock()
			_, err = to.Write(buffer[:n])
			frozen.RUnlock()
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			go forward(out, in)
			go forward(in, out)
		}
	}()
	return listener.Addr().String()
}
