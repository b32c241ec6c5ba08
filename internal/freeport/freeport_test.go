package freeport

import (
	"net"
	"testing"
)

// Of as many ports as the kernel gives out in a row none is a reserved one, and each
// can be listened on by its number.
func TestAddress(t *testing.T) {
	reserved := map[string]bool{}
	for range 200 {
		address, err := Address()
		if err != nil {
			t.Fatal(err)
		}
		if reserved[address] {
			t.Errorf("%s was given out twice", address)
		}
		reserved[address] = true
	}
	for range 2000 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if reserved[l.Addr().String()] {
			t.Errorf("the kernel gave out the reserved %s", l.Addr())
		}
		defer l.Close()
	}
	for address := range reserved {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			t.Fatalf("a server cannot listen on its reserved port: %v", err)
		}
		l.Close()
	}
}
