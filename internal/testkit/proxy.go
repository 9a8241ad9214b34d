package testkit

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy is an address in front of a server, like that of a load balancer: it can switch
// to another server, and it can lose what both ends send without closing connections.
type Proxy struct {
	Addr string

	mu     sync.Mutex
	target string
	lost   bool
	links  map[*proxyLink]bool
	count  int    // of accepted connections
	closed [2]int // the first and last connection that are closed at once
}

// proxyLink is a connection through the proxy.
type proxyLink struct {
	client, server net.Conn
	mu             sync.Mutex
	lost           bool // stays so: what was lost is missing
}

// StartProxy starts a proxy in front of the server at target, which ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: listener.Addr().String(), target: target, links: map[*proxyLink]bool{}}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
	})
	return p
}

// URL returns a server's URL with the proxy's address.
func (p *Proxy) URL(t testing.TB, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("the server's URL is not valid")
	}
	u.Host = p.Addr
	return u.String()
}

// HostOf returns the address in a server's URL.
func HostOf(t testing.TB, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("the server's URL is not valid")
	}
	return u.Host
}

// CloseAtOnce closes connections first to last as soon as they are accepted. The first
// connection through the proxy is number 1.
func (p *Proxy) CloseAtOnce(first, last int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = [2]int{first, last}
}

// Accepted returns how many connections were accepted.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Switch sends new connections to another server.
func (p *Proxy) Switch(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Lose loses everything that is sent on existing and new connections from now on. New
// connections are accepted, by the proxy.
func (p *Proxy) Lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	for link := range p.links {
		link.lose()
	}
}

// Heal lets new connections through again. Existing ones remain lost.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = false
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for link := range p.links {
		link.close()
	}
}

func (p *Proxy) serve(client net.Conn) {
	link := &proxyLink{client: client}
	defer link.close()
	p.mu.Lock()
	target := p.target
	link.lost = p.lost
	p.links[link] = true
	p.count++
	closed := p.closed[0] <= p.count && p.count <= p.closed[1]
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, link)
	}()
	if closed {
		return
	}
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
	if err != nil {
		return
	}
	link.mu.Lock()
	link.server = server
	link.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		link.forward(server, client)
	}()
	link.forward(client, server)
	<-done
}

// forward copies until one end closes. The other end learns that unless the connection
// is lost.
func (l *proxyLink) forward(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if l.isLost() {
			if err != nil {
				return
			}
			continue
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			l.close()
			return
		}
	}
}

func (l *proxyLink) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = true
}

func (l *proxyLink) isLost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *proxyLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}
