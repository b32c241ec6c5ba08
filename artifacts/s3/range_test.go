package s3_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// A part of an object is what it is asked for, also where the connection breaks.
func TestGetRange(t *testing.T) {
	g := storetest.StartGateway(t)
	p := storetest.StartProxy(t, g)
	b := g.Open(t, p.Through(g.Config()))
	data := storetest.Bytes(3<<20, 1)
	storetest.Write(t, b, "blobs/x", data)
	for _, part := range [][2]int64{{0, 10}, {5, 1 << 20}, {3<<20 - 7, 7}} {
		r, err := b.GetRange(t.Context(), "blobs/x", part[0], part[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if r.Close(); err != nil || string(got) != string(data[part[0]:part[0]+part[1]]) {
			t.Errorf("%d bytes from %d on: %d bytes, %v; want those of the object", part[1], part[0], len(got), err)
		}
	}
	p.On(storetest.Method(http.MethodGet), 1, storetest.CutAnswer(100_000))
	r, err := b.GetRange(t.Context(), "blobs/x", 5, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if r.Close(); err != nil || string(got) != string(data[5:5+1<<20]) {
		t.Errorf("with a broken connection: %d bytes, %v; want those of the object", len(got), err)
	}
	if _, err := b.GetRange(t.Context(), "blobs/y", 0, 1); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("no such object: %v, want that it is not found", err)
	}
}
