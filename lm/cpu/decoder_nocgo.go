//go:build !cgo

package cpu

import "fmt"

// Decoder is not there in a build without cgo.
type Decoder struct{}

// DecoderCache is not there in a build without cgo.
type DecoderCache struct{}

// NewDecoder returns ErrNoDecoder.
func NewDecoder(DecoderShape, DecoderWeights) (*Decoder, error) {
	return nil, fmt.Errorf("%w: built without cgo", ErrNoDecoder)
}

// NewCache makes nothing.
func (*Decoder) NewCache(int) *DecoderCache { return &DecoderCache{} }

// Forward returns ErrNoDecoder.
func (*Decoder) Forward(*DecoderCache, *Tokens) error { return ErrNoDecoder }
