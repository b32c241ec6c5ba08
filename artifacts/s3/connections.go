package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// connections are the connections that a client has open. They are tracked here
// because the SDK hides its transport behind a type that cannot close idle ones.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

// track records the connections that a transport opens.
func (c *connections) track(t *http.Transport) {
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		tracked := &trackedConn{Conn: conn, from: c}
		c.mu.Lock()
		c.open[tracked] = true
		c.mu.Unlock()
		return tracked, nil
	}
}

// close closes every connection that is open.
func (c *connections) close() error {
	c.mu.Lock()
	var all []net.Conn
	for conn := range c.open {
		all = append(all, conn)
	}
	c.mu.Unlock()
	var errs []error
	for _, conn := range all {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

type trackedConn struct {
	net.Conn
	from *connections
}

func (t *trackedConn) Close() error {
	t.from.mu.Lock()
	delete(t.from.open, t)
	t.from.mu.Unlock()
	return t.Conn.Close()
}
