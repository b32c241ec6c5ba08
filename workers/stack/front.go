package stack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"
)

// bounds of what the store's clients may take up.
type bounds struct {
	header    time.Duration // for the header of a request
	stall     time.Duration // between two pieces of a request's body
	idle      time.Duration // between two requests; more than the 90 s of our own clients
	strangers int           // connections that have not shown the store's access key
}

var storeBounds = bounds{header: 10 * time.Second, stall: time.Minute, idle: 2 * time.Minute, strangers: 256}

// front is an HTTP server with bounds, of which versitygw's own has none. It runs
// the gateway's handler itself, so that no byte is copied once more.
//
// On the loopback interface all clients have one address, whoever they are. What
// tells them apart is the store's access key: those that have not shown it share
// strangers connections, of which the oldest is closed for a new one, and have one
// request each. Whether a request is served is the gateway's to say.
type front struct {
	bounds
	access []byte // what a request's authorization has to name
	theirs *fasthttp.Server
	server *fasthttp.Server
	door   *door
	done   chan error // receives once, when the server has stopped
}

// startFront serves the gateway's application on a listener.
func startFront(l net.Listener, app *fiber.App, access string, b bounds) *front {
	theirs := app.Server()
	f := &front{bounds: b, access: []byte("Credential=" + access + "/"), theirs: theirs, done: make(chan error, 1)}
	f.door = &door{TCPListener: l.(*net.TCPListener), most: b.strangers}
	f.server = &fasthttp.Server{
		Handler: f.serve, ErrorHandler: f.refuse, Logger: theirs.Logger, Name: theirs.Name,
		Concurrency: theirs.Concurrency, MaxRequestBodySize: theirs.MaxRequestBodySize,
		ReadBufferSize: theirs.ReadBufferSize, StreamRequestBody: theirs.StreamRequestBody,
		ReadTimeout: b.header, IdleTimeout: b.idle, CloseOnShutdown: true,
	}
	go func() { f.done <- f.server.Serve(f.door) }()
	return f
}

func (f *front) serve(ctx *fasthttp.RequestCtx) {
	g := ctx.Conn().(*guest)
	known := bytes.Contains(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization), f.access)
	if known {
		f.door.leave(g)
	}
	g.stall = f.stall
	f.theirs.Handler(ctx)
	g.stall = 0
	if !known {
		ctx.SetConnectionClose()
	}
}

// refuse answers what is no request. versitygw takes a connection that has ended, or
// was ended, for an error of its own, and prints it.
func (f *front) refuse(ctx *fasthttp.RequestCtx, err error) {
	var ofNet net.Error
	if errors.As(err, &ofNet) || errors.Is(err, io.ErrUnexpectedEOF) {
		ctx.SetStatusCode(fasthttp.StatusRequestTimeout)
		return
	}
	f.theirs.ErrorHandler(ctx, err)
}

// stopLimit is the time that requests have to end when the store is stopped.
const stopLimit = 10 * time.Second

func (f *front) stop() error {
	f.door.shut()
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	err := f.server.ShutdownWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // what is still open ends with the process
	}
	return errors.Join(err, <-f.done)
}

// door lets connections in, and bounds those of strangers.
type door struct {
	*net.TCPListener
	most int

	mu        sync.Mutex
	strangers []*guest // the oldest first
}

// Accept waits for the next connection. What passes, such as too many open files,
// does not end the server.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		return d.enter(conn), nil
	}
}

// enter counts a connection in, and closes the oldest stranger's where there are too many.
func (d *door) enter(conn *net.TCPConn) *guest {
	g := &guest{TCPConn: conn, door: d}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.strangers = append(d.strangers, g)
	if len(d.strangers) > d.most {
		_ = d.strangers[0].TCPConn.Close() // the server notices
		d.strangers = d.strangers[1:]
	}
	return g
}

// leave ends that a connection counts as a stranger's.
func (d *door) leave(g *guest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.strangers, g); i >= 0 {
		d.strangers = slices.Delete(d.strangers, i, i+1)
	}
}

// shut closes what strangers have open.
func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.strangers {
		_ = g.TCPConn.Close()
	}
}

// guest is a connection. It has the methods of a TCP connection, by which files
// are sent without being copied.
type guest struct {
	*net.TCPConn
	door  *door
	stall time.Duration // the most time that a read may take; 0: until the deadline
}

func (g *guest) Read(p []byte) (int, error) {
	if g.stall > 0 {
		if err := g.TCPConn.SetReadDeadline(time.Now().Add(g.stall)); err != nil {
			return 0, err
		}
	}
	return g.TCPConn.Read(p)
}

// SetReadDeadline sets one that stays.
func (g *guest) SetReadDeadline(t time.Time) error {
	g.stall = 0
	return g.TCPConn.SetReadDeadline(t)
}

// Close also ends that the connection counts.
func (g *guest) Close() error {
	g.door.leave(g)
	return g.TCPConn.Close()
}
