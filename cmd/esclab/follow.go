package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// view shows a run's progress: bars on a terminal, lines elsewhere.
type view interface {
	update(v lab.RunView)
	close()
}

// onTerminal tells whether people see what is written, as it is written.
func onTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// follow shows a run until it ends and returns its result. A cancelled
// context stops the following, never the run.
func (se *session) follow(ctx context.Context, run lab.Execution, out io.Writer) (workflows.RunResult, error) {
	var v view = newLines(out)
	if onTerminal(out) {
		v = newBars(out)
	}
	defer v.close()
	return se.lab.FollowRun(ctx, run, v.update)
}

// bars draws one progress bar for each stage that runs.
type bars struct {
	writer   progress.Writer
	screen   screen
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
	s := newScreen(out)
	if s.colours {
		w.Style().Colors = progress.StyleColorsDefault
	}
	w.Style().Visibility.Value = true
	w.Style().Visibility.Speed = false
	w.Style().Visibility.ETA = false
	go w.Render()
	return &bars{writer: w, screen: s, trackers: map[string]*progress.Tracker{}, finished: map[string]bool{}}
}

func (b *bars) update(v lab.RunView) {
	for _, s := range v.Stages {
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
			p := v.Running[s.Name]
			t.UpdateMessage(s.Name + "  " + detail(p))
			if p.Steps > 0 {
				t.UpdateTotal(int64(p.Steps))
				t.SetValue(int64(min(p.Step, p.Steps-1))) // the bar is full when the artifact is there
			}
		case workflows.StageDone, workflows.StageReused, workflows.StageFailed, workflows.StageSkipped:
			b.finished[s.Name] = true
			if t == nil {
				b.writer.Log("%s", ending(b.screen, s))
				continue
			}
			t.UpdateMessage(ending(b.screen, s))
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
	screen screen
	last   map[string]workflows.StageStatus
	said   map[string]time.Time
	seen   map[string]int // attempts
}

// lineEvery is how often a running stage says how far it is.
const lineEvery = 10 * time.Second

func newLines(out io.Writer) *lines {
	return &lines{
		screen: newScreen(out),
		last:   map[string]workflows.StageStatus{}, said: map[string]time.Time{}, seen: map[string]int{},
	}
}

func (l *lines) update(v lab.RunView) {
	for _, s := range v.Stages {
		changed := l.last[s.Name] != s.Status
		l.last[s.Name] = s.Status
		switch {
		case s.Status == workflows.StageWaiting:
		case s.Status == workflows.StageRunning:
			p := v.Running[s.Name]
			changed = changed || p.Attempt > max(l.seen[s.Name], 1) // say at once what failed
			if changed || (p.Steps > 0 && time.Since(l.said[s.Name]) > lineEvery) {
				l.said[s.Name], l.seen[s.Name] = time.Now(), p.Attempt
				fmt.Fprintf(l.screen.out, "%-26s running  %s\n", s.Name, detail(p))
			}
		case changed:
			fmt.Fprintln(l.screen.out, ending(l.screen, s))
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
func ending(on screen, s workflows.StageState) string {
	switch s.Status {
	case workflows.StageReused:
		return fmt.Sprintf("%-26s reused   %.12s", s.Name, s.Result.Digest)
	case workflows.StageDone:
		return fmt.Sprintf("%-26s done     %.12s in %.1f s", s.Name, s.Result.Digest, s.Result.Seconds)
	case workflows.StageFailed:
		return on.paint(text.Colors{text.FgRed}, fmt.Sprintf("%-26s failed   %s", s.Name, s.Error))
	default:
		return fmt.Sprintf("%-26s %s", s.Name, s.Status)
	}
}
