package stack

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"
	temporallog "go.temporal.io/server/common/log"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// logLimit is the size in bytes above which a start sets the log file aside.
const logLimit = 16 << 20

// openLog returns the Temporal server's logger, which writes warnings and
// errors as JSON lines to a file of its own, and what closes that file.
func openLog(dataDir string, log zerolog.Logger) (temporallog.Logger, io.Closer, error) {
	dir := filepath.Join(dataDir, datadir.LogDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("logs: %w", err)
	}
	path := filepath.Join(dir, "temporal.log")
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, nil, fmt.Errorf("logs: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("logs: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	w := &logWriter{file: f}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.AddSync(w), zap.WarnLevel)
	return temporallog.NewZapLogger(zap.New(core, zap.WithFatalHook(fatalHook{log}))), w, nil
}

// logWriter is a file that swallows what is written after Close: the Temporal
// server's last background tasks log a little after it has stopped.
type logWriter struct {
	mu   sync.Mutex
	file *os.File // nil after Close
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return len(p), nil
	}
	return w.file.Write(p)
}

func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.file
	w.file = nil
	return f.Close()
}

// fatalHook reports what the Temporal server calls fatal, instead of ending the
// process, so that the program stops its stages in order and says why.
type fatalHook struct{ log zerolog.Logger }

func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	encoded := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoded)
	}
	h.log.Error().Fields(encoded.Fields).Msg("temporal: " + entry.Message)
}
