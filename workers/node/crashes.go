package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/internal/whole"
)

// maxCrashes is how often a stage may take its process along before it is
// parked: work that crashes its worker would otherwise crash it at every start,
// with whatever else runs there.
const maxCrashes = 3

// crashes keeps, in the data directory, what processes of this machine have
// crashed of, and at which stages. A process that was killed leaves nothing
// here, so preemption never parks a stage.
type crashes struct {
	dir, name string // name is this process's
}

// report has the Go runtime write its last words into a file, too: of a panic, of
// a fault in a library, of memory that the runtime cannot get.
func (c crashes) report() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(c.file(c.name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, whole.Private)
	if err != nil {
		return err
	}
	return errors.Join(debug.SetCrashOutput(f, debug.CrashOptions{}), f.Close()) // the runtime has a descriptor of its own
}

// end says that the process ends by itself.
func (c crashes) end() error {
	err := debug.SetCrashOutput(nil, debug.CrashOptions{})
	if e := os.Remove(c.file(c.name)); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

func (c crashes) file(process string) string { return filepath.Join(c.dir, process+".txt") }

// crashed says whether a process that is gone left last words, and removes the
// file where it did not.
func (c crashes) crashed(process string) bool {
	info, err := os.Stat(c.file(process))
	if err != nil {
		return false
	}
	if info.Size() == 0 {
		_ = os.Remove(c.file(process))
	}
	return info.Size() > 0
}

// crashRecord counts the processes that a stage has taken along.
type crashRecord struct {
	Stage  string    `json:"stage"`
	Times  int       `json:"times"`
	Last   time.Time `json:"last"`
	Output string    `json:"output"` // file with the last words of the last process
}

func (c crashes) record(fingerprint string) string {
	return filepath.Join(c.dir, fingerprint+".json")
}

// count notes that a process crashed while these stages ran there: those whose
// attempts have left a scratch directory.
func (c crashes) count(process, scratch string) error {
	left, err := filepath.Glob(filepath.Join(scratch, "*", activities.AttemptFile))
	if err != nil {
		return err
	}
	for _, path := range left {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fingerprint, stage, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
		if fingerprint == "" || strings.ContainsAny(fingerprint, "/\\.") {
			continue
		}
		r, err := c.read(fingerprint)
		if err != nil {
			return err
		}
		r.Stage, r.Times, r.Last, r.Output = stage, r.Times+1, time.Now().UTC(), c.file(process)
		data, err := json.MarshalIndent(r, "", " ")
		if err != nil {
			return err
		}
		if err := whole.Write(c.record(fingerprint), whole.Private, append(data, '\n')); err != nil {
			return err
		}
	}
	return nil
}

func (c crashes) read(fingerprint string) (r crashRecord, err error) {
	raw, err := os.ReadFile(c.record(fingerprint))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("record of crashes: %w: remove %s", err, c.record(fingerprint))
	}
	return r, nil
}

// parked says why a stage is not tried again on this machine, and how it is.
func (c crashes) parked(fingerprint string) error {
	r, err := c.read(fingerprint)
	if err != nil || r.Times < maxCrashes {
		return err
	}
	return fmt.Errorf("%d attempts have crashed their worker, the last at %s (its last words: %s); to have it tried again, remove %s and run again",
		r.Times, r.Last.Format(time.DateTime), r.Output, c.record(fingerprint))
}
