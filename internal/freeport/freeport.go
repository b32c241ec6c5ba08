// Package freeport finds ports for servers that take a number, not a listener. Between
// the choice and the server's own listening a port that is merely free may go to
// another process, which does the same or dials; a reserved one does not.
package freeport

import (
	"fmt"
	"net"
)

// Port returns a port of the loopback interface that is free and reserved.
func Port() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, reserve(l)
}

// reserve keeps the kernel from giving the port of l to another process before a
// server listens on it again: a connection closed from the server's side lingers in
// TIME_WAIT, for a minute on Linux, which excludes the port from automatic choice but
// not from being asked for by number.
func reserve(l net.Listener) error {
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return fmt.Errorf("reserve port: %w", err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return fmt.Errorf("reserve port: %w", err)
	}
	return server.Close()
}
