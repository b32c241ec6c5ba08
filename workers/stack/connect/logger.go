package connect

import (
	"fmt"

	"github.com/rs/zerolog"
	sdklog "go.temporal.io/sdk/log"
)

// NewLogger lets Temporal's SDK log to zerolog.
func NewLogger(log zerolog.Logger) sdklog.Logger { return logger{log} }

type logger struct{ log zerolog.Logger }

func (l logger) Debug(msg string, keyvals ...any) { send(l.log.Debug(), msg, keyvals) }
func (l logger) Info(msg string, keyvals ...any)  { send(l.log.Info(), msg, keyvals) }
func (l logger) Warn(msg string, keyvals ...any)  { send(l.log.Warn(), msg, keyvals) }
func (l logger) Error(msg string, keyvals ...any) { send(l.log.Error(), msg, keyvals) }

// With returns a logger that adds the pairs to every event.
func (l logger) With(keyvals ...any) sdklog.Logger {
	c := l.log.With()
	for i := 0; i+1 < len(keyvals); i += 2 {
		c = c.Interface(fmt.Sprint(keyvals[i]), printable(keyvals[i+1]))
	}
	return logger{c.Logger()}
}

func send(e *zerolog.Event, msg string, keyvals []any) {
	for i := 0; i+1 < len(keyvals); i += 2 {
		e = e.Interface(fmt.Sprint(keyvals[i]), printable(keyvals[i+1]))
	}
	e.Msg(msg)
}

// printable keeps an error's text, which JSON would render as {}.
func printable(v any) any {
	switch v := v.(type) {
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	return v
}
