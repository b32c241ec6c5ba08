package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Messages of a worker's debug log that are understood.
const (
	attemptBegins = "attempt begins"
	attemptEnds   = "attempt ends"
	stepMade      = "step"
	chunkMade     = "chunk"
	saved         = "checkpoint saved"
	stageDone     = "stage done"
)

// Record is a line of a worker's log.
type Record struct {
	Worker  string  `json:"-"`
	Start   int     `json:"-"` // which start of the worker
	Message string  `json:"message"`
	Stage   string  `json:"stage"`
	Attempt int     `json:"attempt"`
	Token   int64   `json:"token"` // orders the attempts at a stage
	Step    int     `json:"step"`
	Steps   int     `json:"steps"`
	Epoch   float64 `json:"epoch"` // finished passes over the data, after the step
	Chunk   int     `json:"chunk"`
	Saved   int     `json:"saved"` // steps or chunks that the checkpoint holds
	Error   string  `json:"error"`
}

// attempt names an attempt among all.
type attempt struct {
	stage string
	token int64
}

// progress is how far an attempt has come.
type progress struct {
	attempt
	worker string
	start  int
	first  int // the first step or chunk that it made; 0: none
	last   int
	steps  int
	epoch  float64 // after the last step
	pass   int     // the epoch of the last step, from 1
	saves  []int
	ended  bool
	done   bool // the stage's artifact is committed
	after  int  // steps since the last save, at most
}

// Records are what the workers have logged, in the order of their reading.
type Records struct {
	dir     string
	workers []*Process

	mu       sync.Mutex
	offsets  map[string]int64
	partial  map[string][]byte
	attempts map[attempt]*progress
	newest   map[string]int64 // token of a stage's newest attempt
	count    int              // of lines that say that something has advanced
}

// NewRecords reads the logs of workers.
func NewRecords(dir string, workers []*Process) *Records {
	return &Records{dir: dir, workers: workers, offsets: map[string]int64{}, partial: map[string][]byte{},
		attempts: map[attempt]*progress{}, newest: map[string]int64{}}
}

// Read takes in what has been logged since the last call.
func (r *Records) Read() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		for start := max(1, w.Number()-1); start <= w.Number(); start++ {
			if err := r.readFile(w.Name, start); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Records) readFile(worker string, start int) error {
	name := LogFile(r.dir, worker, start)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(r.offsets[name], io.SeekStart); err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	r.offsets[name] += int64(len(data))
	data = append(r.partial[name], data...)
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		data = rest
		one := Record{Worker: worker, Start: start}
		if len(line) > 0 && line[0] == '{' && json.Unmarshal(line, &one) == nil && one.Stage != "" && one.Token > 0 {
			r.take(one)
		}
	}
	r.partial[name] = bytes.Clone(data)
	return nil
}

// take records one line.
func (r *Records) take(one Record) {
	key := attempt{one.Stage, one.Token}
	p := r.attempts[key]
	if p == nil {
		p = &progress{attempt: key, worker: one.Worker, start: one.Start}
		r.attempts[key] = p
	}
	r.newest[one.Stage] = max(r.newest[one.Stage], one.Token)
	switch one.Message {
	case attemptBegins:
	case stepMade:
		if p.first == 0 {
			p.first = one.Step
			p.pass = passOf(one.Epoch)
		}
		p.last, p.steps, p.epoch, p.pass = one.Step, one.Steps, one.Epoch, passOf(one.Epoch)
	case chunkMade:
		if p.first == 0 {
			p.first = one.Chunk
		}
		p.last = one.Chunk
	case saved:
		p.saves = append(p.saves, one.Saved)
	case attemptEnds:
		p.ended = true
	case stageDone:
		p.done = true
	default:
		return
	}
	if p.steps > 0 {
		p.after = max(p.after, p.last-p.saved())
	}
	r.count++
}

// passOf is the epoch, from 1, of a step after which so many epochs were finished.
func passOf(epoch float64) int {
	pass := int(epoch)
	if epoch-float64(pass) > 1e-9 {
		pass++
	}
	return max(pass, 1)
}

// saved is the step up to which nothing can be lost: that of the last save, or
// the one after which the attempt began.
func (p *progress) saved() int {
	if len(p.saves) > 0 {
		return p.saves[len(p.saves)-1]
	}
	return p.first - 1
}

// advances counts the lines that say that something has advanced.
func (r *Records) advances() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// current gives the newest attempt at a stage, if there was one.
func (r *Records) current(stage string) (progress, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.attempts[attempt{stage, r.newest[stage]}]
	if p == nil {
		return progress{}, false
	}
	return *p, true
}

// Reached reads the logs and says how many attempts a stage has had, up to which
// step the newest has come, and which it has saved; over tells that it has ended.
func (r *Records) Reached(stage string) (attempts, step, saved int, over bool, err error) {
	if err := r.Read(); err != nil {
		return 0, 0, 0, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.attempts {
		if key.stage == stage {
			attempts++
		}
	}
	if p := r.attempts[attempt{stage, r.newest[stage]}]; p != nil {
		step, saved, over = p.last, p.saved(), p.ended
	}
	return attempts, step, saved, over, nil
}

// done says whether a worker has logged that the stage's artifact was committed.
func (r *Records) done(stage string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, p := range r.attempts {
		if key.stage == stage && p.done {
			return true
		}
	}
	return false
}

// running gives the attempts that a start of a worker has begun and not ended.
func (r *Records) running(worker string, start int) []progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []progress
	for _, p := range r.attempts {
		if p.worker == worker && p.start == start && !p.ended {
			all = append(all, *p)
		}
	}
	return all
}
