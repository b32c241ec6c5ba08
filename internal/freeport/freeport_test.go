package freeport

import (
	"net"
	"strconv"
	"testing"
)

// Of as many ports as the kernel gives out in a row none is a reserved one, and each
// can be listened on by its number.
func TestPort(t *testing.T) {
	reserved := map[int]bool{}
	for range 200 {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		if reserved[port] {
			t.Errorf("%d was given out twice", port)
		}
		reserved[port] = true
	}
	for range 2000 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if reserved[l.Addr().(*net.TCPAddr).Port] {
			t.Errorf("the kernel gave out the reserved %s", l.Addr())
		}
		defer l.Close()
	}
	for port := range reserved {
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatalf("a server cannot listen on its reserved port: %v", err)
		}
		l.Close()
	}
}
