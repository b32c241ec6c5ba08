package workflows

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
)

// The web UI shows a workflow's summary beside its name and its current details
// in the tab "User Metadata", both as Markdown. These functions write them; they
// change no history.

// Summary says what a run is of.
func (in RunInput) Summary() string {
	out := inert.Page(in.Experiment)
	if f := in.Facts; f.Backbone != "" {
		out += fmt.Sprintf(" on %s, seed %d", inert.Page(f.Backbone), f.Seed)
	}
	if f := in.Facts; f.Sweep != "" {
		out += fmt.Sprintf(", sweep %s, cell %s", inert.Page(f.Sweep), inert.Page(f.Cell))
	}
	return out
}

// runDetails shows how many stages stand where, what failed, the systems side
// by side as far as they are evaluated, and the DAG's state, stage by stage.
func runDetails(f Facts, state RunState) string {
	counts := map[StageStatus]int{}
	for _, s := range state.Stages {
		counts[s.Status]++
	}
	var parts []string
	for _, status := range []StageStatus{StageDone, StageReused, StageRunning, StageWaiting, StageFailed, StageCancelled, StageSkipped} {
		if n := counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, onPage(status)))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %d stages, %s\n\n", inert.Page(state.Experiment), len(state.Stages), strings.Join(parts, ", "))
	for _, f := range failures(state.Stages) {
		b.WriteString(f.line())
	}
	b.WriteString(systemsTable(state.Stages))
	b.WriteString("\n| stage | state | seconds | artifact |\n|:--|:--|--:|:--|\n")
	for _, s := range state.Stages {
		seconds, digest := "", ""
		if s.Status == StageDone {
			seconds = fmt.Sprintf("%.1f", s.Result.Seconds)
		}
		if s.Result.Digest != "" {
			digest = f.files(inert.PageCode(short(s.Result.Digest)), s.Fingerprint, "")
		}
		state := onPage(s.Status)
		if s.Joined {
			state += ", begun by another run"
		}
		if s.Result.Sparkline != "" {
			state += " " + inert.Page(s.Result.Sparkline)
		}
		name := inert.Page(s.Name)
		if s.WorkflowID != "" && (s.Status == StageRunning || s.Status == StageDone || s.Status == StageFailed) {
			name = link(s.Name, s.WorkflowID, "")
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", name, sign(s.Status), state, seconds, digest)
	}
	return b.String()
}

// onPage is the word for a state where nobody has asked Temporal.
func onPage(s StageStatus) string {
	if s == StageRunning {
		return "queued or running"
	}
	return string(s)
}

// failure is how stages, or cells, have ended, all of them alike: "failed", and why.
type failure struct {
	who      []string
	how, why string
}

// addFailure adds what one has ended of to those that have ended of the same.
func addFailure(all []failure, one failure) []failure {
	for i, f := range all {
		if f.how == one.how && f.why == one.why {
			all[i].who = append(f.who, one.who...)
			return all
		}
	}
	return append(all, one)
}

// shownNames bounds those that a line names.
const shownNames = 12

// names lists who has ended so.
func (f failure) names() string {
	if more := len(f.who) - shownNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(f.who[:shownNames], ", "), more)
	}
	return strings.Join(f.who, ", ")
}

// line is the failure in Markdown.
func (f failure) line() string {
	return fmt.Sprintf("- **%s** %s: %s\n", inert.Page(f.names()), f.how, inert.PageCode(f.why))
}

// failures lists what stages have failed of: what eight have met is one.
func failures(stages []StageState) []failure {
	var all []failure
	for _, s := range stages {
		if s.Status == StageFailed {
			all = addFailure(all, failure{[]string{s.Name}, "failed", strings.TrimPrefix(s.Error, "stage "+s.Name+": ")})
		}
	}
	return all
}

// systemsTable is Table 3 of a run's own systems, vanilla beside decoupled, as
// far as they are evaluated, the best of a column in bold; "" before the first
// number.
func systemsTable(stages []StageState) string {
	order, rows := systemMetrics(stages)
	if len(order) == 0 {
		return ""
	}
	// In two parts: the page is narrow, and would hide the last columns.
	part := map[bool][]experiments.Column{}
	for _, c := range experiments.Table3() {
		part[c.Judged()] = append(part[c.Judged()], c)
	}
	return systemsPart(order, rows, part[false]) + systemsPart(order, rows, part[true])
}

// plain gives the lines of tables in Markdown without their marks, with the columns
// below each other.
func plain(markdown string) []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for line := range strings.Lines(markdown) {
		if cells := strings.Trim(line, "| \n"); cells != "" && !strings.HasPrefix(line, "|:") {
			fmt.Fprintln(w, strings.NewReplacer(" | ", "\t", "**", "").Replace(cells))
		}
	}
	_ = w.Flush() // into memory
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// systemsPart is the table of some columns; "" where nobody has a number.
func systemsPart(order []experiments.System, rows map[experiments.System]map[string]float64, columns []experiments.Column) string {
	best := map[string]float64{}
	for _, c := range columns {
		for _, sys := range order {
			v, ok := rows[sys][c.Name]
			if was, any := best[c.Name]; ok && (!any || (v > was && !c.Smaller) || (v < was && c.Smaller)) {
				best[c.Name] = v
			}
		}
	}
	if len(best) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n| system |")
	rule := "|:--|"
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.Head)
		rule += "--:|"
	}
	b.WriteString("\n" + rule + "\n")
	for _, sys := range order {
		fmt.Fprintf(&b, "| %s |", inert.Page(sys.Name()))
		for _, c := range columns {
			v, ok := rows[sys][c.Name]
			switch {
			case !ok:
				b.WriteString(" – |")
			case len(order) > 1 && v == best[c.Name]:
				fmt.Fprintf(&b, " **%.2f** |", v)
			default:
				fmt.Fprintf(&b, " %.2f |", v)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// systemMetrics gathers the systems' evaluations, in the order of the stages;
// where a system has several seeds' models, the mean over those evaluated.
func systemMetrics(stages []StageState) (order []experiments.System, rows map[experiments.System]map[string]float64) {
	rows = map[experiments.System]map[string]float64{}
	counts := map[experiments.System]map[string]float64{}
	for _, s := range stages {
		if s.Kind != experiments.KindScore && s.Kind != experiments.KindJudge && s.Kind != experiments.KindBias {
			continue
		}
		sys, ok := experiments.SystemOf(experiments.Stage{Name: s.Name, Kind: s.Kind})
		if !ok || len(s.Result.Metrics) == 0 {
			continue
		}
		if rows[sys] == nil {
			rows[sys], counts[sys] = map[string]float64{}, map[string]float64{}
			order = append(order, sys)
		}
		//workflowcheck:ignore
		for metric, v := range s.Result.Metrics {
			counts[sys][metric]++
			rows[sys][metric] += (v - rows[sys][metric]) / counts[sys][metric]
		}
	}
	return order, rows
}

// sign lets the eye find a state in a long table.
func sign(s StageStatus) string {
	switch s {
	case StageDone:
		return "✓"
	case StageReused:
		return "↺"
	case StageRunning:
		return "▶"
	case StageFailed:
		return "✗"
	case StageCancelled:
		return "■"
	case StageSkipped:
		return "–"
	}
	return "·"
}

// runningDetails says where a stage is computed, and why where that is known.
func runningDetails(in StageInput, reason string) string {
	if reason != "" {
		reason = ": " + inert.PageCode(reason)
	}
	return fmt.Sprintf("**%s** runs on the queue %s%s\n\nIts phase, step, loss and speed stand under *Pending Activities*.\n",
		inert.Page(in.Stage.Name), inert.PageCode(in.Queues.Queue(in.Stage.Queue)), reason)
}

// cancelledDetails says that nobody wants a stage any more.
func cancelledDetails(in StageInput) string {
	return fmt.Sprintf("**%s** was cancelled; a run that wants it goes on from its last checkpoint\n", inert.Page(in.Stage.Name))
}

// failedDetails says what a stage ended of.
func failedDetails(in StageInput, err error) string {
	return fmt.Sprintf("**%s** ended without an artifact: %s\n", inert.Page(in.Stage.Name), inert.PageCode(rootMessage(err)))
}

// resultDetails shows what a stage made.
func resultDetails(stage string, r StageResult) string {
	var b strings.Builder
	if r.Reused {
		fmt.Fprintf(&b, "**%s** was in the store and is reused\n\n", inert.Page(stage))
	} else {
		fmt.Fprintf(&b, "**%s** ran in %.1f s\n\n", inert.Page(stage), r.Seconds)
	}
	b.WriteString("| what | value |\n|:--|:--|\n")
	//workflowcheck:ignore
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		fmt.Fprintf(&b, "| %s | %s |\n", inert.Page(strings.ReplaceAll(name, "_", " ")), strconv.FormatFloat(r.Metrics[name], 'g', 6, 64))
	}
	if r.Sparkline != "" {
		fmt.Fprintf(&b, "| loss, first to last step | %s |\n", inert.Page(r.Sparkline))
	}
	if r.Engine != "" {
		fmt.Fprintf(&b, "| engine | %s |\n", inert.Page(r.Engine))
	}
	fmt.Fprintf(&b, "| artifact | %s |\n| fingerprint | %s |\n", inert.PageCode(short(r.Digest)), inert.PageCode(short(r.Fingerprint)))
	return b.String()
}

// short abbreviates a digest for people.
func short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}
