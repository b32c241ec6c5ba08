package experiments

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Action is what a run would do with a stage.
type Action string

const (
	ActionReuse   Action = "reuse"   // its artifact is there and whole
	ActionRun     Action = "run"     // it has to be computed
	ActionBlocked Action = "blocked" // a source file it rests on is missing
)

// Decision is a stage's action and why.
type Decision struct {
	Action Action `json:"action"`
	Reason string `json:"reason"` // "artifact 3f2a… is whole", "no artifact", "new inputs: sft/sp"
}

// PlannedStage is a stage with its decision, one element of the plan's JSON.
type PlannedStage struct {
	Stage
	Decision
}

// Planned joins stages and decisions by stage name. A stage without a
// fingerprint is blocked whatever the decisions say; one without a decision is
// to be run.
func Planned(stages []Stage, decisions map[string]Decision) []PlannedStage {
	out := make([]PlannedStage, len(stages))
	for i, s := range stages {
		d, ok := decisions[s.Name]
		switch {
		case s.Fingerprint == "":
			d = Decision{ActionBlocked, "its source files are missing, or those of a stage before it"}
		case !ok:
			d = Decision{Action: ActionRun}
		}
		out[i] = PlannedStage{Stage: s, Decision: d}
	}
	return out
}

// WritePlan writes the plan as an aligned table, one stage a line, and a line
// of totals: what `esclab run --plan` prints. Where that is wider than the width, 0
// being any, queues and inputs are left out and long reasons go on in the next line.
func WritePlan(w io.Writer, planned []PlannedStage, limit int) error {
	rows := [][]string{{"STAGE", "ACTION", "FINGERPRINT", "QUEUE", "NEEDS", "REASON"}}
	count := map[Action]int{}
	for _, p := range planned {
		count[p.Action]++
		rows = append(rows, []string{p.Name, string(p.Action), Short(p.Fingerprint), string(p.Queue), needs(p.Stage), p.Reason})
	}
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	total := 2 * (len(width) - 1)
	for _, n := range width {
		total += n
	}
	narrow := limit > 0 && total > limit
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if narrow && i >= 2 && i < len(row)-1 {
				continue
			}
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
		}
		text := strings.TrimRight(line.String(), " ")
		if indent := width[0] + width[1] + 4; narrow && indent < limit {
			text = folded(text, limit, indent)
		}
		b.WriteString(text + "\n")
	}
	fmt.Fprintf(&b, "%d stages:", len(planned))
	for i, a := range []Action{ActionReuse, ActionRun, ActionBlocked} {
		if a != ActionBlocked || count[a] > 0 {
			fmt.Fprintf(&b, "%s %d to %s", strings.Repeat(",", min(i, 1)), count[a], verb(a))
		}
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// folded breaks a line between words where it is wider than the width; what follows
// is indented.
func folded(line string, width, indent int) string {
	text, at := "", 0
	for word := range strings.SplitAfterSeq(line, " ") {
		if n := utf8.RuneCountInString(strings.TrimRight(word, " ")); at > indent && at+n > width {
			text = strings.TrimRight(text, " ") + "\n" + strings.Repeat(" ", indent)
			at = indent
		}
		text += word
		at += utf8.RuneCountInString(word)
	}
	return text
}

func verb(a Action) string {
	if a == ActionBlocked {
		return "wait for source files"
	}
	return string(a)
}

// WritePlanJSON writes the plan as an indented JSON array of PlannedStage.
func WritePlanJSON(w io.Writer, planned []PlannedStage) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(planned)
}

// Short abbreviates a fingerprint for people; "-" where there is none.
func Short(fingerprint string) string {
	if fingerprint == "" {
		return "-"
	}
	return fingerprint[:min(12, len(fingerprint))]
}

// needs lists a stage's inputs; the report's, which are nearly all, as a number.
func needs(s Stage) string {
	names := InputNames(s)
	if len(names) > 5 {
		return fmt.Sprintf("%d stages", len(names))
	}
	return strings.Join(names, " ")
}

// InputNames lists the stages that a stage needs.
func InputNames(s Stage) []string {
	var names []string
	for _, n := range s.Inputs {
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
