package connect

import (
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
)

// maxPayload bounds what one call hands to Temporal, at half of what its server
// accepts. Only names, parameters, digests and numbers are meant to pass; anything
// larger is content that belongs into the store.
const maxPayload = 1 << 20

// ErrTypePayload is the type of the error that a larger payload is refused
// with. No retry makes it smaller.
const ErrTypePayload = "PayloadTooLarge"

// limited is a data converter that refuses payloads above a size before they
// are sent. The server would refuse them as well, but only after the call, and a
// worker whose result is refused runs its activity again and again.
type limited struct {
	converter.DataConverter
	max int
}

// ToPayload implements converter.DataConverter.
func (l limited) ToPayload(value any) (*commonpb.Payload, error) {
	p, err := l.DataConverter.ToPayload(value)
	if err != nil {
		return nil, err
	}
	return p, l.check(p.Size())
}

// ToPayloads implements converter.DataConverter.
func (l limited) ToPayloads(values ...any) (*commonpb.Payloads, error) {
	p, err := l.DataConverter.ToPayloads(values...)
	if err != nil || p == nil {
		return p, err
	}
	return p, l.check(p.Size())
}

func (l limited) check(size int) error {
	if size <= l.max {
		return nil
	}
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(
		"temporal: %d KiB for one call, more than %d KiB, are not sent: content belongs into the store; pass its key and digest, or split the experiment or sweep",
		size>>10, l.max>>10), ErrTypePayload, nil)
}
