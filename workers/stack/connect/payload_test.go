package connect

import (
	"errors"
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
)

func TestPayloadsAreLimited(t *testing.T) {
	l := limited{converter.GetDefaultDataConverter(), 1 << 10}
	small, large := strings.Repeat("a", 500), strings.Repeat("a", 2000)
	if p, err := l.ToPayloads(small, 7); err != nil || len(p.GetPayloads()) != 2 {
		t.Errorf("a small payload: %v, %v", p, err)
	}
	for name, encode := range map[string]func() error{
		"one":           func() error { _, err := l.ToPayload(large); return err },
		"several":       func() error { _, err := l.ToPayloads(large); return err },
		"small ones":    func() error { _, err := l.ToPayloads(small, small, small); return err },
		"none, and one": func() error { _, err := l.ToPayloads(nil, large); return err },
	} {
		err := encode()
		var app *temporal.ApplicationError
		if !errors.As(err, &app) || !app.NonRetryable() || app.Type() != ErrTypePayload || !strings.Contains(err.Error(), "more than 1 KiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := l.ToPayloads(); err != nil || len(p.GetPayloads()) != 0 {
		t.Errorf("no values: %v, %v", p, err)
	}
	if maxPayload*2 > 2<<20 {
		t.Error("the limit is no longer below what a Temporal server takes")
	}
}
