package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.temporal.io/sdk/client"
	"golang.org/x/term"

	"github.com/esclab/esclab/activities"
	"github.com/esclab/esclab/workflows"
)

// followEvery is how often the progress of a run is looked up.
const followEvery = time.Second

// view shows a run's progress: bars on a terminal, lines elsewhere.
type view interface {
	update(state workflows.RunState, running map[string]workflows.Progress)
	close()
}

// follow shows a run until it ends and returns its result. A cancelled
// context stops the following, never the run.
func follow(ctx context.Context, c client.Client, run client.WorkflowRun, out *os.File) (workflows.RunResult, error) {
	var v view = newLines(out)
	if term.IsTerminal(int(out.Fd())) {
		v = newBars(out)
	}
	defer v.close()

	type outcome struct {
		result workflows.RunResult
		err    error
	}
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		o.err = run.Get(ctx, &o.result)
		ended <- o
	}()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-ended:
			if ctx.Err() == nil {
				look(ctx, c, run.GetID(), v)
			}
			return o.result, o.err
		case <-ctx.Done():
			return workflows.RunResult{}, ctx.Err()
		case <-tick.C:
			look(ctx, c, run.GetID(), v)
		}
	}
}

// look updates the view once; a lost connection shows as no progress.
func look(ctx context.Context, c client.Client, workflowID string, v view) {
	state, running, err := readState(ctx, c, workflowID)
	if err == nil {
		v.update(state, running)
	}
}

// readState asks a run for its DAG, and the running stages for their progress.
func readState(ctx context.Context, c client.Client, workflowID string) (workflows.RunState, map[string]workflows.Progress, error) {
	var state workflows.RunState
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	answer, err := c.QueryWorkflow(ctx, workflowID, "", workflows.QueryState)
	if err != nil {
		return state, nil, fmt.Errorf("ask run %s for its state (a worker has to be up to answer): %w", workflowID, err)
	}
	if err := answer.Get(&state); err != nil {
		return state, nil, fmt.Errorf("state of run %s: %w", workflowID, err)
	}
	running := map[string]workflows.Progress{}
	for _, s := range state.Stages {
		if s.Status != workflows.StageRunning {
			continue
		}
		id := workflows.StageWorkflowID(s.Kind, s.Fingerprint)
		p, err := activities.ReadProgress(ctx, c, id)
		if err != nil && errors.Is(err, context.DeadlineExceeded) {
			return state, running, err
		}
		running[s.Name] = p
	}
	return state, running, nil
}

// bars draws one progress bar for each stage that runs.
type bars struct {
	writer   progress.Writer
	trackers map[string]*progress.Tracker
	finished map[string]bool
}

func newBars(out io.Writer) *bars {
	w := progress.NewWriter()
	w.SetOutputWriter(out)
	w.SetMessageLength(64)
	w.SetTrackerLength(24)
	w.SetUpdateFrequency(250 * time.Millisecond)
	w.SetStyle(progress.StyleBlocks)
	w.Style().Colors = progress.StyleColorsDefault
	w.Style().Visibility.Value = true
	w.Style().Visibility.Speed = false
	w.Style().Visibility.ETA = false
	go w.Render()
	return &bars{writer: w, trackers: map[string]*progress.Tracker{}, finished: map[string]bool{}}
}

func (b *bars) update(state workflows.RunState, running map[string]workflows.Progress) {
	for _, s := range state.Stages {
		if b.finished[s.Name] {
			continue
		}
		t := b.trackers[s.Name]
		switch s.Status {
		case workflows.StageRunning:
			if t == nil {
				t = &progress.Tracker{Message: s.Name}
				b.trackers[s.Name] = t
				b.writer.AppendTracker(t)
			}
			p := running[s.Name]
			t.UpdateMessage(s.Name + "  " + detail(p))
			if p.Steps > 0 {
				t.UpdateTotal(int64(p.Steps))
				t.SetValue(int64(min(p.Step, p.Steps-1))) // the bar is full when the artifact is there
			}
		case workflows.StageDone, workflows.StageReused, workflows.StageFailed, workflows.StageSkipped:
			b.finished[s.Name] = true
			if t == nil {
				b.writer.Log("%s", ending(s))
				continue
			}
			t.UpdateMessage(ending(s))
			if s.Status == workflows.StageFailed {
				t.MarkAsErrored()
			} else {
				t.MarkAsDone()
			}
		}
	}
}

func (b *bars) close() {
	time.Sleep(300 * time.Millisecond) // one more frame
	b.writer.Stop()
	for b.writer.IsRenderInProgress() {
		time.Sleep(20 * time.Millisecond)
	}
}

// lines prints a line when a stage begins and ends, and now and then between.
type lines struct {
	out  io.Writer
	last map[string]workflows.StageStatus
	said map[string]time.Time
	seen map[string]int // attempts
}

// lineEvery is how often a running stage says how far it is.
const lineEvery = 10 * time.Second

func newLines(out io.Writer) *lines {
	return &lines{out: out, last: map[string]workflows.StageStatus{}, said: map[string]time.Time{}, seen: map[string]int{}}
}

func (l *lines) update(state workflows.RunState, running map[string]workflows.Progress) {
	for _, s := range state.Stages {
		changed := l.last[s.Name] != s.Status
		l.last[s.Name] = s.Status
		switch {
		case s.Status == workflows.StageWaiting:
		case s.Status == workflows.StageRunning:
			p := running[s.Name]
			changed = changed || p.Attempt > max(l.seen[s.Name], 1) // say at once what failed
			if changed || (p.Steps > 0 && time.Since(l.said[s.Name]) > lineEvery) {
				l.said[s.Name], l.seen[s.Name] = time.Now(), p.Attempt
				fmt.Fprintf(l.out, "%-26s running  %s\n", s.Name, detail(p))
			}
		case changed:
			fmt.Fprintln(l.out, ending(s))
		}
	}
}

func (l *lines) close() {}

// detail is the progress of a running stage in a few words.
func detail(p workflows.Progress) string {
	s := p.Phase
	if p.Attempt > 1 {
		s = fmt.Sprintf("attempt %d (%.200s) %s", p.Attempt, p.Failure, p.Phase)
	}
	if p.Steps > 0 {
		s += fmt.Sprintf(" %d/%d", p.Step, p.Steps)
	}
	if p.Loss != 0 {
		s += fmt.Sprintf("  loss %.4f", p.Loss)
	}
	if p.TokensPerSecond > 0 {
		s += fmt.Sprintf("  %.0f tok/s", p.TokensPerSecond)
	}
	if p.Spent != nil {
		s += fmt.Sprintf("  judge %d calls, %d tokens", p.Spent.Calls, p.Spent.Tokens)
		if p.Spent.Money > 0 {
			s += fmt.Sprintf(", %.2f", p.Spent.Money)
		}
	}
	if p.ETASeconds > 0 {
		s += fmt.Sprintf("  ETA %s", (time.Duration(p.ETASeconds) * time.Second).String())
	}
	return s
}

// ending is a finished stage's line.
func ending(s workflows.StageState) string {
	switch s.Status {
	case workflows.StageReused:
		return fmt.Sprintf("%-26s reused   %.12s", s.Name, s.Result.Digest)
	case workflows.StageDone:
		return fmt.Sprintf("%-26s done     %.12s in %.1f s", s.Name, s.Result.Digest, s.Result.Seconds)
	case workflows.StageFailed:
		return text.FgRed.Sprintf("%-26s failed   %s", s.Name, s.Error)
	default:
		return fmt.Sprintf("%-26s %s", s.Name, s.Status)
	}
}
