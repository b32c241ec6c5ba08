// Package tfevents writes TensorBoard's event files, at once or while a training
// goes on, and reads them back: scalars by step. Of the format it knows what that
// takes: TFRecord's framing with masked CRC-32C
// (tensorflow/core/lib/io/record_writer.cc) around the messages Event, Summary
// and Summary.Value (tensorflow/core/util/event.proto,
// tensorflow/core/framework/summary.proto).
package tfevents

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// FileName is a name by which TensorBoard finds an event file in a directory.
const FileName = "events.out.tfevents.0.esclab"

// Fields of the messages.
const (
	eventWallTime    protowire.Number = 1
	eventStep        protowire.Number = 2
	eventFileVersion protowire.Number = 3
	eventSummary     protowire.Number = 5
	summaryValue     protowire.Number = 1
	valueTag         protowire.Number = 1
	valueSimple      protowire.Number = 2
)

// fileVersion is what the first event of a file says.
const fileVersion = "brain.Event:2"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Scalar is one value under a tag such as "train/loss".
type Scalar struct {
	Tag   string
	Value float64 // kept as float32
}

// Writer writes one event file.
type Writer struct{ w io.Writer }

// NewWriter begins an event file. wall is as for Scalars.
func NewWriter(w io.Writer, wall float64) (*Writer, error) {
	e := appendWallTime(nil, wall)
	e = protowire.AppendTag(e, eventFileVersion, protowire.BytesType)
	e = protowire.AppendString(e, fileVersion)
	out := &Writer{w}
	return out, out.record(e)
}

// Scalars writes the values at a step. wall is in seconds since 1970; 0 where
// nobody knows, which TensorBoard takes as well.
func (w *Writer) Scalars(step int64, wall float64, scalars ...Scalar) error {
	if len(scalars) == 0 {
		return nil
	}
	var summary []byte
	for _, s := range scalars {
		var v []byte
		v = protowire.AppendTag(v, valueTag, protowire.BytesType)
		v = protowire.AppendString(v, s.Tag)
		v = protowire.AppendTag(v, valueSimple, protowire.Fixed32Type)
		v = protowire.AppendFixed32(v, math.Float32bits(float32(s.Value)))
		summary = protowire.AppendTag(summary, summaryValue, protowire.BytesType)
		summary = protowire.AppendBytes(summary, v)
	}
	e := appendWallTime(nil, wall)
	e = protowire.AppendTag(e, eventStep, protowire.VarintType)
	e = protowire.AppendVarint(e, uint64(step))
	e = protowire.AppendTag(e, eventSummary, protowire.BytesType)
	e = protowire.AppendBytes(e, summary)
	return w.record(e)
}

func appendWallTime(b []byte, wall float64) []byte {
	b = protowire.AppendTag(b, eventWallTime, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(wall))
}

// record frames a message: its length, the length's checksum, the message,
// its checksum.
func (w *Writer) record(message []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(message)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, message...)
	b = binary.LittleEndian.AppendUint32(b, masked(message))
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

// masked is the checksum as TFRecord stores it, so that one of data that hold
// checksums is sound.
func masked(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}
