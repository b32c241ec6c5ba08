package chaos

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Link passes TCP connections on to a service and hurts them when told to.
type Link struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	conns  map[*net.TCPConn]struct{} // both ends
	refuse bool
	delay  time.Duration
	open   chan struct{} // closed while data may pass
	closed bool
}

// NewLink listens on a port of the loopback interface for connections to target.
func NewLink(target string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", target, err)
	}
	k := &Link{listener: l, target: target, conns: map[*net.TCPConn]struct{}{}, open: make(chan struct{})}
	close(k.open)
	go k.accept()
	return k, nil
}

// Address is where the link listens, host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// Close ends the link and its connections.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.listener.Close()
	l.Cut(true)
	l.Resume()
}

// Cut resets every connection; with refuse, new ones too until Heal.
func (l *Link) Cut(refuse bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = refuse
	for c := range l.conns {
		_ = c.SetLinger(0) // a reset, as a host that is gone sends
		c.Close()
	}
}

// Heal ends what hurts: connections are let through, and pass at once.
func (l *Link) Heal() {
	l.mu.Lock()
	l.refuse, l.delay = false, 0
	l.mu.Unlock()
	l.Resume()
}

// Slow holds back every piece of data that passes, of at most 32 KiB, for so
// long, until Heal.
func (l *Link) Slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// Stall lets nothing pass until Resume or Heal; connections stay.
func (l *Link) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
		l.open = make(chan struct{})
	default:
	}
}

// Resume ends Stall.
func (l *Link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.open:
	default:
		close(l.open)
	}
}

func (l *Link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.serve(c.(*net.TCPConn))
	}
}

// serve passes one connection on.
func (l *Link) serve(near *net.TCPConn) {
	defer near.Close()
	if !l.admit(near) {
		return
	}
	defer l.forget(near)
	<-l.gate()
	c, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = near.SetLinger(0)
		return
	}
	far := c.(*net.TCPConn)
	defer far.Close()
	if !l.admit(far) {
		return
	}
	defer l.forget(far)
	var both sync.WaitGroup
	both.Go(func() { l.pass(far, near) })
	both.Go(func() { l.pass(near, far) })
	both.Wait()
}

// admit notes a connection, unless they are refused.
func (l *Link) admit(c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse || l.closed {
		_ = c.SetLinger(0)
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) forget(c *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// gate is closed while data may pass.
func (l *Link) gate() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// pass copies one direction until an end closes, which it tells the other.
func (l *Link) pass(to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			<-l.gate()
			l.mu.Lock()
			delay := l.delay
			l.mu.Unlock()
			time.Sleep(delay)
			if _, err := to.Write(buffer[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}
