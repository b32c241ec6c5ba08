package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// view shows a run's progress: a board on a terminal, lines elsewhere.
type view interface {
	update(v lab.RunView)
	close()
}

// follow shows a run of these stages until it ends and returns its result. A
// cancelled context stops the following, never the run.
func (se *session) follow(ctx context.Context, run lab.Execution, stages []experiments.Stage, out io.Writer) (workflows.RunResult, error) {
	var v view = newLines(out)
	if onTerminal(out) {
		se.app.board.use(out)
		left := newTimeLeft(stages)
		go func() {
			if past, err := se.lab.PastStages(ctx); err == nil { // without it, the run's own stages teach
				left.learn(past...)
			}
		}()
		v = &runBoard{board: se.app.board, screen: newScreen(out), left: left, said: map[string]bool{}, last: map[string]workflows.Progress{}}
	}
	defer v.close()
	return se.lab.FollowRun(ctx, run, v.update)
}

// runBoard shows a run on a terminal: above, a line for each stage that has ended;
// below, how far the run is, a bar for each stage that runs, and what is queued.
type runBoard struct {
	*board
	screen screen
	left   *timeLeft
	said   map[string]bool // stages whose end is told
	last   map[string]workflows.Progress
}

func (b *runBoard) update(v lab.RunView) {
	width, _ := b.size()
	for _, s := range v.Stages {
		if !over(s.Status) || b.said[s.Name] {
			continue
		}
		b.said[s.Name] = true
		if s.Status == workflows.StageDone && !s.Result.Resumed {
			b.left.learnStage(s)
		}
		if s.Status != workflows.StageReused { // they are counted
			line := ending(s, b.last[s.Name], width-1)
			if s.Status == workflows.StageFailed {
				line = b.screen.paint(text.Colors{text.FgRed}, line)
			} else {
				line = cut(line, width-1)
			}
			fmt.Fprintln(b, line)
		}
	}
	for name, p := range v.Running {
		if last := b.last[name]; p.Steps > 0 && p.Steps == last.Steps { // while it validates or saves
			p.Loss, p.ETASeconds = cmp.Or(p.Loss, last.Loss), cmp.Or(p.ETASeconds, last.ETASeconds)
			v.Running[name] = p
		}
		b.last[name] = p
	}
	b.paint(func(width int) []string { return runLines(v, b.left.of(v), width) })
}

func over(s workflows.StageStatus) bool {
	switch s {
	case workflows.StageDone, workflows.StageReused, workflows.StageFailed, workflows.StageCancelled, workflows.StageSkipped:
		return true
	}
	return false
}

// runLines are the board's lines of a run.
func runLines(v lab.RunView, left string, width int) []string {
	done, reused, name := 0, 0, 0
	var running []workflows.StageState
	var queued []string
	for _, s := range v.Stages {
		switch {
		case over(s.Status):
			done++
			if s.Status == workflows.StageReused {
				reused++
			}
		case s.Status == workflows.StageQueued:
			queued = append(queued, s.Name)
		case s.Status == workflows.StageRunning:
			running = append(running, s)
			name = max(name, len(s.Name))
		}
	}
	head := fmt.Sprintf("%d/%d stages", done, len(v.Stages))
	if left != "" && done < len(v.Stages) {
		head += ", " + left
	}
	if reused > 0 {
		head += fmt.Sprintf(" (%d were in the store)", reused)
	}
	lines := []string{head}
	for _, s := range running {
		lines = append(lines, stageLine(s, v.Running[s.Name], min(name, width/3), width))
	}
	if len(queued) > 0 {
		lines = append(lines, "queued: "+strings.Join(queued, ", "))
	}
	return lines
}

// stageLine is a running stage on one line: its name, a bar, and first of all
// where it is, its loss and its time left; the rest as far as there is room.
func stageLine(s workflows.StageState, p workflows.Progress, nameWidth, width int) string {
	var first, rest []string
	if s.Joined {
		rest = append(rest, begunByAnother)
	}
	if p.Steps > 0 {
		first = append(first, fmt.Sprintf("%d/%d", p.Step, p.Steps))
	}
	if p.Loss != 0 {
		first = append(first, fmt.Sprintf("loss %.3f", p.Loss))
	}
	if p.ETASeconds > 0 {
		first = append(first, "ETA "+roughly(p.ETASeconds))
	}
	if p.Phase != "" {
		rest = append(rest, p.Phase)
	}
	if p.Attempt > 1 {
		rest = append(rest, fmt.Sprintf("attempt %d", p.Attempt))
		if p.Steps == 0 && p.Failure != "" {
			rest = append(rest, "after: "+oneLine(p.Failure))
		}
	}
	if p.TokensPerSecond > 0 {
		rest = append(rest, fmt.Sprintf("%.0f tok/s", p.TokensPerSecond))
	}
	if p.Spent != nil {
		rest = append(rest, spent(*p.Spent))
	}
	line := fmt.Sprintf("%-*s", nameWidth, cut(s.Name, nameWidth))
	tail := strings.Join(first, "  ")
	if p.Sparkline != "" && text.StringWidth(line+tail+p.Sparkline)+3 <= width {
		loss := fmt.Sprintf("loss %.3f", p.Loss)
		tail = strings.Replace(tail, loss, loss+" "+p.Sparkline, 1)
	}
	if p.Steps > 0 {
		if room := width - len(line) - text.StringWidth(tail) - 4; room >= 6 {
			line += "  " + bar(float64(p.Step)/float64(p.Steps), min(room, 20))
		}
	}
	if tail != "" {
		line += "  " + tail
	}
	for _, r := range rest {
		if len(first) > 0 && text.StringWidth(line)+2+len(r) > width {
			break
		}
		line += "  " + r
	}
	return line
}

// begunByAnother says of a stage that the run has joined it.
const begunByAnother = "begun by another run"

// bar draws a share of so many columns.
func bar(share float64, columns int) string {
	full := min(int(share*float64(columns)), columns)
	return strings.Repeat("█", full) + strings.Repeat("░", columns-full)
}

// lines prints a line when a stage begins and ends, and now and then between.
type lines struct {
	screen screen
	last   map[string]string // of each stage: its state as it was said
	said   map[string]time.Time
	seen   map[string]int // attempts
}

// lineEvery is how often a running stage says how far it is.
const lineEvery = 10 * time.Second

func newLines(out io.Writer) *lines {
	return &lines{
		screen: newScreen(out),
		last:   map[string]string{}, said: map[string]time.Time{}, seen: map[string]int{},
	}
}

func (l *lines) update(v lab.RunView) {
	for _, s := range v.Stages {
		state, p := string(s.Status), v.Running[s.Name]
		if s.Joined && !over(s.Status) {
			state += ", " + begunByAnother
		}
		changed := l.last[s.Name] != state
		l.last[s.Name] = state
		switch {
		case s.Status == workflows.StageWaiting:
		case s.Status == workflows.StageRunning, s.Status == workflows.StageQueued:
			if p.Attempt > max(l.seen[s.Name], 1) && p.Failure != "" { // say once what failed
				fmt.Fprintf(l.screen.out, "%-26s attempt %d, after: %.200s\n", s.Name, p.Attempt, oneLine(p.Failure))
			}
			l.seen[s.Name] = p.Attempt
			if changed || (p.Steps > 0 && time.Since(l.said[s.Name]) > lineEvery) {
				l.said[s.Name] = time.Now()
				fmt.Fprintln(l.screen.out, strings.TrimRight(fmt.Sprintf("%-26s %-8s %s", s.Name, state, detail(p)), " "))
			}
		case changed:
			line := ending(s, p, l.screen.width)
			if s.Status == workflows.StageFailed {
				line = l.screen.paint(text.Colors{text.FgRed}, line)
			}
			fmt.Fprintln(l.screen.out, line)
		}
	}
}

func (l *lines) close() {}

// detail is the progress of a running stage in a few words.
func detail(p workflows.Progress) string {
	s := p.Phase
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
		s += "  " + spent(*p.Spent)
	}
	if p.ETASeconds > 0 {
		s += "  ETA " + roughly(p.ETASeconds)
	}
	if p.Attempt > 1 {
		s += fmt.Sprintf("  attempt %d", p.Attempt)
	}
	return s
}

// spent says what the judge's endpoint was paid.
func spent(s workflows.Spent) string {
	line := fmt.Sprintf("judge %d calls, %d tokens", s.Calls, s.Tokens)
	if s.Money > 0 {
		line += fmt.Sprintf(", %.2f", s.Money)
	}
	return line
}

// ending is a finished stage's line; with the loss and its curve, as far as there is
// room, where the stage's last progress has them.
func ending(s workflows.StageState, p workflows.Progress, width int) string {
	line := ""
	switch s.Status {
	case workflows.StageReused:
		line = fmt.Sprintf("%-26s reused   %.12s", s.Name, s.Result.Digest)
	case workflows.StageDone:
		line = fmt.Sprintf("%-26s done     %.12s in %.1f s", s.Name, s.Result.Digest, s.Result.Seconds)
		if s.Joined {
			line += ", " + begunByAnother
		}
	case workflows.StageFailed:
		return fmt.Sprintf("%-26s failed   %s", s.Name, oneLine(s.Error))
	default:
		return fmt.Sprintf("%-26s %s", s.Name, s.Status)
	}
	loss := fmt.Sprintf("  loss %.3f", p.Loss)
	if p.Sparkline != "" && len(line)+len(loss)+1+text.StringWidth(p.Sparkline) <= width {
		line += loss + " " + p.Sparkline
	}
	return line
}
