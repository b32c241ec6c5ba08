package tfevents

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Event is what one record of an event file says.
type Event struct {
	Wall    float64 // seconds since 1970
	Step    int64
	Version string // of the format, in the first record
	Scalars []Scalar
}

// ErrTorn tells that an event file ends within a record, or goes on with
// something else: whoever wrote it was killed, or still writes.
var ErrTorn = errors.New("the event file ends within a record")

// maxRecord bounds the length of a record that is read.
const maxRecord = 1 << 20

// Read gives the events of a file to each, one by one, and returns how many bytes
// the whole records have. What follows them gives ErrTorn.
func Read(r io.Reader, each func(Event)) (bytes int64, err error) {
	head := make([]byte, 12)
	for {
		if _, err := io.ReadFull(r, head); errors.Is(err, io.EOF) {
			return bytes, nil
		} else if err != nil {
			return bytes, torn(err)
		}
		n := binary.LittleEndian.Uint64(head)
		if binary.LittleEndian.Uint32(head[8:]) != masked(head[:8]) || n > maxRecord {
			return bytes, ErrTorn
		}
		message := make([]byte, n+4)
		if _, err := io.ReadFull(r, message); err != nil {
			return bytes, torn(err)
		}
		sum := binary.LittleEndian.Uint32(message[n:])
		message = message[:n]
		if sum != masked(message) {
			return bytes, ErrTorn
		}
		e, err := parse(message)
		if err != nil {
			return bytes, fmt.Errorf("event at byte %d: %w", bytes, err)
		}
		bytes += int64(n) + 16
		each(e)
	}
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTorn
	}
	return err
}

func parse(message []byte) (e Event, err error) {
	err = fields(message, func(n protowire.Number, bits uint64, text []byte) error {
		switch n {
		case eventWallTime:
			e.Wall = math.Float64frombits(bits)
		case eventStep:
			e.Step = int64(bits)
		case eventFileVersion:
			e.Version = string(text)
		case eventSummary:
			return fields(text, func(_ protowire.Number, _ uint64, value []byte) error {
				var s Scalar
				err := fields(value, func(n protowire.Number, bits uint64, text []byte) error {
					switch n {
					case valueTag:
						s.Tag = string(text)
					case valueSimple:
						s.Value = float64(math.Float32frombits(uint32(bits)))
					}
					return nil
				})
				e.Scalars = append(e.Scalars, s)
				return err
			})
		}
		return nil
	})
	return e, err
}

// fields gives the fields of a message: numbers as their bits, the rest as bytes.
func fields(b []byte, each func(n protowire.Number, bits uint64, text []byte) error) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
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
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := each(number, bits, text); err != nil {
			return err
		}
	}
	return nil
}
