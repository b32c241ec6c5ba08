package tfevents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/results"
)

// The head of every event file that TensorFlow writes: a record of 24 bytes,
// with the checksum of that length.
func TestHead(t *testing.T) {
	var b bytes.Buffer
	if _, err := NewWriter(&b, 0); err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x0d}, "brain.Event:2"...)
	if got := b.Bytes()[:b.Len()-4]; !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}

func TestScalars(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, 0)
	if err != nil {
		t.Fatal(err)
	}
	for step := range int64(3) {
		if err := w.Scalars(step*1000, 1.5, Scalar{"train/loss", 1 / float64(step+1)}, Scalar{"train/rewards/margin", -float64(step)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Scalars(9, 0); err != nil { // nothing to say is no event
		t.Fatal(err)
	}
	for rest := b.Bytes(); len(rest) > 0; {
		if rest, err = unframe(rest); err != nil {
			t.Fatal(err)
		}
	}
	got := readAll(t, &b)
	third := float64(float32(1) / 3)
	want := []Event{
		{Version: "brain.Event:2"},
		{Wall: 1.5, Step: 0, Scalars: []Scalar{{"train/loss", 1}, {"train/rewards/margin", 0}}},
		{Wall: 1.5, Step: 1000, Scalars: []Scalar{{"train/loss", 0.5}, {"train/rewards/margin", -1}}},
		{Wall: 1.5, Step: 2000, Scalars: []Scalar{{"train/loss", third}, {"train/rewards/margin", -2}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestLog: a log that was torn in the middle of a record goes on after its last
// whole one, and says each step once, with the time at which it was first said.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	path := filepath.Join(dir, "demo", "dpo", "sp", FileName)
	write := func(from, to int) {
		t.Helper()
		l, err := OpenLog(root, "demo/dpo/sp")
		if err != nil {
			t.Fatal(err)
		}
		for step := from; step <= to; step++ {
			s := results.Step{Step: step, Loss: 1 / float64(step), GradNorm: math.NaN(), Rewards: &results.Rewards{Margin: float64(step)}}
			if step == 4 {
				s.Validation = &results.Validation{Loss: 0.5}
			}
			if err := l.Scalars(int64(step), Of(s)...); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	read := func() []Event {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return readAll(t, f)
	}
	write(1, 3)
	before := read()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-5); err != nil { // within step 3
		t.Fatal(err)
	}
	write(2, 5) // a checkpoint of step 1
	write(6, 6)
	after := read()
	if !reflect.DeepEqual(after[:3], before[:3]) {
		t.Errorf("steps 1 and 2 became\n%v\nwant them as they were\n%v", after[:3], before[:3])
	}
	if after[0].Version != fileVersion || len(after) != 7 {
		t.Fatalf("%d records, the first of version %q; want the head and 6 steps", len(after), after[0].Version)
	}
	for i, e := range after[1:] {
		tags := map[string]float64{}
		for _, s := range e.Scalars {
			tags[s.Tag] = s.Value
		}
		step := i + 1
		if e.Step != int64(step) || tags["train/loss"] != float64(float32(1/float64(step))) || tags["train/rewards/margins"] != float64(step) {
			t.Errorf("record %d is of step %d with %v, want step %d", i, e.Step, tags, step)
		}
		if _, says := tags["train/grad_norm"]; says {
			t.Errorf("step %d has a gradient norm that is no number", step)
		}
		if _, says := tags["eval/loss"]; says != (step == 4) {
			t.Errorf("step %d: a validation loss is %v, want it at step 4 alone", step, says)
		}
		if e.Wall < after[0].Wall || e.Wall < 1.7e9 {
			t.Errorf("step %d happened at %f, want the time of its writing", step, e.Wall)
		}
	}
	if _, err := OpenLog(root, "../outside"); err == nil {
		t.Error("a log was opened outside of its directory")
	}
	t.Run("TensorBoard reads the same", func(t *testing.T) {
		type point struct {
			Step  int64
			Wall  float64
			Value float64
		}
		var want []point
		for _, e := range after[1:] {
			want = append(want, point{e.Step, e.Wall, e.Scalars[slices.IndexFunc(e.Scalars, func(s Scalar) bool { return s.Tag == "train/loss" })].Value})
		}
		got := reference.Python[[]point](t, "tensorboard", "testdata/read.py", nil, filepath.Dir(path), "train/loss")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func readAll(t *testing.T, r io.Reader) (all []Event) {
	t.Helper()
	if _, err := Read(r, func(e Event) { all = append(all, e) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWriteErrors(t *testing.T) {
	if _, err := NewWriter(full{}, 0); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// unframe checks a record bit by bit, with a CRC-32C of its own.
func unframe(b []byte) (rest []byte, err error) {
	unmask := func(b []byte) uint32 {
		rot := binary.LittleEndian.Uint32(b) - 0xa282ead8
		return rot>>17 | rot<<15
	}
	n := binary.LittleEndian.Uint64(b)
	if unmask(b[8:]) != crc(b[:8]) {
		return nil, errors.New("the length's checksum is wrong")
	}
	if unmask(b[12+n:]) != crc(b[12:12+n]) {
		return nil, errors.New("the message's checksum is wrong")
	}
	return b[16+n:], nil
}

func crc(data []byte) uint32 {
	c := ^uint32(0)
	for _, b := range data {
		c ^= uint32(b)
		for range 8 {
			c = c>>1 ^ crc32.Castagnoli&-(c&1)
		}
	}
	return ^c
}
