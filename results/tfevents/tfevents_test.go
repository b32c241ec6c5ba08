package tfevents

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// The head of every event file that TensorFlow writes: a record of 24 bytes,
// with the checksum of that length.
func TestHead(t *testing.T) {
	var b bytes.Buffer
	if _, err := NewWriter(&b); err != nil {
		t.Fatal(err)
	}
	want := append([]byte{0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1a, 0x0d}, "brain.Event:2"...)
	if got := b.Bytes()[:b.Len()-4]; !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}

func TestScalars(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b)
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
	var got []event
	for rest := b.Bytes(); len(rest) > 0; {
		var message []byte
		if message, rest, err = unframe(rest); err != nil {
			t.Fatal(err)
		}
		got = append(got, parse(t, message))
	}
	third := float64(float32(1) / 3)
	want := []event{
		{version: "brain.Event:2"},
		{wall: 1.5, step: 0, scalars: []Scalar{{"train/loss", 1}, {"train/rewards/margin", 0}}},
		{wall: 1.5, step: 1000, scalars: []Scalar{{"train/loss", 0.5}, {"train/rewards/margin", -1}}},
		{wall: 1.5, step: 2000, scalars: []Scalar{{"train/loss", third}, {"train/rewards/margin", -2}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWriteErrors(t *testing.T) {
	if _, err := NewWriter(full{}); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// unframe checks a record bit by bit, with a CRC-32C of its own.
func unframe(b []byte) (message, rest []byte, err error) {
	unmask := func(b []byte) uint32 {
		rot := binary.LittleEndian.Uint32(b) - 0xa282ead8
		return rot>>17 | rot<<15
	}
	n := binary.LittleEndian.Uint64(b)
	if unmask(b[8:]) != crc(b[:8]) {
		return nil, nil, errors.New("the length's checksum is wrong")
	}
	message = b[12 : 12+n]
	if unmask(b[12+n:]) != crc(message) {
		return nil, nil, errors.New("the message's checksum is wrong")
	}
	return message, b[16+n:], nil
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

type event struct {
	wall    float64
	step    int64
	version string
	scalars []Scalar
}

func parse(t *testing.T, message []byte) (e event) {
	t.Helper()
	fields(t, message, func(n protowire.Number, bits uint64, text []byte) {
		switch n {
		case eventWallTime:
			e.wall = math.Float64frombits(bits)
		case eventStep:
			e.step = int64(bits)
		case eventFileVersion:
			e.version = string(text)
		case eventSummary:
			fields(t, text, func(_ protowire.Number, _ uint64, value []byte) {
				var s Scalar
				fields(t, value, func(n protowire.Number, bits uint64, text []byte) {
					if n == valueTag {
						s.Tag = string(text)
					} else {
						s.Value = float64(math.Float32frombits(uint32(bits)))
					}
				})
				e.scalars = append(e.scalars, s)
			})
		default:
			t.Errorf("unknown field %d", n)
		}
	})
	return e
}

func fields(t *testing.T, b []byte, each func(n protowire.Number, bits uint64, text []byte)) {
	t.Helper()
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var bits uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			bits, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			bits, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			bits = uint64(v)
		case protowire.BytesType:
			text, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		each(number, bits, text)
	}
}
