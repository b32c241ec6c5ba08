package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/internal/crash"
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

// LastWords has a crash of this process write its last words below a data
// directory, and say so in one line. The function that it returns is for a process
// that ends by itself.
func LastWords(dataDir string) (end func() error, err error) {
	c := crashesOf(dataDir)
	return c.end, c.report()
}

// crashesOf is this machine's record of crashes.
func crashesOf(dataDir string) crashes {
	return crashes{filepath.Join(dataDir, "crashes"), processName()}
}

func (c crashes) report() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(c.file(c.name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, whole.Private)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("esclab: crashed; its last words are in %s: run the same command again, which goes on at the last checkpoint", f.Name())
	return errors.Join(crash.Report(f, line), f.Close()) // it has a descriptor of its own
}

func (c crashes) end() error {
	err := crash.End()
	if e := os.Remove(c.file(c.name)); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

func (c crashes) file(process string) string { return filepath.Join(c.dir, process+".txt") }

// crashed says whether a process that is gone left last words.
func (c crashes) crashed(process string) bool {
	info, err := os.Stat(c.file(process))
	return err == nil && info.Size() > 0
}

// sweep removes the files of processes that were killed, which said nothing.
func (c crashes) sweep() {
	files, err := filepath.Glob(c.file("*"))
	if err != nil {
		return
	}
	for _, file := range files {
		if process := strings.TrimSuffix(filepath.Base(file), ".txt"); gone(process) && !c.crashed(process) {
			_ = os.Remove(file) // or the next process does it
		}
	}
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
