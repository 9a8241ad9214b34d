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

// TestARedisThatHangs answers nothing any more: whoever enqueues goes on after their
// own patience, and leaves nothing behind.
func TestARedisThatHangs(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(testkit.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	var frozen sync.RWMutex
	u.Host = passOn(t, u.Host, &frozen)
	c, err := Connect(u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	client := NewClient(c)
	enqueue := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return client.Enqueue(ctx, mms.Task{MessageID: uuid.New(), Generation: 1, Priority: mms.Normal})
	}
	if err := enqueue(time.Minute); err != nil {
		t.Fatal(err)
	}

	frozen.Lock()
	var group sync.WaitGroup
	for range 3 * pipelineMax {
		group.Go(func() {
			if enqueue(50*time.Millisecond) == nil {
				t.Error("a task was enqueued without an answer")
			}
		})
	}
	group.Wait()
	p := client.redis.(*pipelined)
	p.mu.Lock()
	left := len(p.waiting)
	p.mu.Unlock()
	if left > 0 {
		t.Errorf("%d scripts are kept for nobody", left)
	}
	frozen.Unlock()
	testkit.Eventually(t, "the queue takes tasks again", func() bool { return enqueue(time.Second) == nil })
}

// passOn takes connections and passes all they carry on to an address, while nobody
// has locked frozen.
func passOn(t *testing.T, to string, frozen *sync.RWMutex) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	pass := func(to, from net.Conn) {
		defer to.Close()
		for some := make([]byte, 64<<10); ; {
			n, err := from.Read(some)
			if err != nil {
				return
			}
			frozen.RLock()
			_, err = to.Write(some[:n])
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
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	return listener.Addr().String()
}
