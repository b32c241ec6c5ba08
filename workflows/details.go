package workflows

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The web UI shows a workflow's current details, Markdown, in the tab "User
// Metadata". These functions write them; they change no history.

// runDetails shows how many stages stand where, what failed, and the DAG's
// state, stage by stage.
func runDetails(state RunState) string {
	counts := map[StageStatus]int{}
	for _, s := range state.Stages {
		counts[s.Status]++
	}
	var parts []string
	for _, status := range []StageStatus{StageDone, StageReused, StageRunning, StageWaiting, StageFailed, StageSkipped} {
		if n := counts[status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, status))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: %d stages, %s\n\n", state.Experiment, len(state.Stages), strings.Join(parts, ", "))
	for _, s := range state.Stages {
		if s.Error != "" {
			fmt.Fprintf(&b, "- **%s** failed: %s\n", s.Name, literal(s.Error))
		}
	}
	b.WriteString("\n| stage | state | seconds | artifact |\n|:--|:--|--:|:--|\n")
	for _, s := range state.Stages {
		seconds, digest := "", ""
		if s.Status == StageDone {
			seconds = fmt.Sprintf("%.1f", s.Result.Seconds)
		}
		if s.Result.Digest != "" {
			digest = literal(short(s.Result.Digest))
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", s.Name, sign(s.Status), s.Status, seconds, digest)
	}
	return b.String()
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
	case StageSkipped:
		return "–"
	}
	return "·"
}

// runningDetails says why a stage is computed and where.
func runningDetails(in StageInput, reason string) string {
	return fmt.Sprintf("**%s** runs on the queue %s: %s\n\nIts phase, step, loss and speed stand under *Pending Activities*.\n",
		in.Stage.Name, literal(in.Queues.Queue(in.Stage.Queue)), literal(reason))
}

// failedDetails says what a stage ended of.
func failedDetails(in StageInput, err error) string {
	return fmt.Sprintf("**%s** ended without an artifact: %s\n", in.Stage.Name, literal(rootMessage(err)))
}

// resultDetails shows what a stage made.
func resultDetails(stage string, r StageResult) string {
	var b strings.Builder
	if r.Reused {
		fmt.Fprintf(&b, "**%s** was in the store and is reused\n\n", stage)
	} else {
		fmt.Fprintf(&b, "**%s** ran in %.1f s\n\n", stage, r.Seconds)
	}
	b.WriteString("| what | value |\n|:--|:--|\n")
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(name, "_", " "), strconv.FormatFloat(r.Metrics[name], 'g', 6, 64))
	}
	if r.Engine != "" {
		fmt.Fprintf(&b, "| engine | %s |\n", r.Engine)
	}
	fmt.Fprintf(&b, "| artifact | %s |\n| fingerprint | %s |\n", literal(short(r.Digest)), literal(short(r.Fingerprint)))
	return b.String()
}

// literal shows text as it is, on one line, whatever Markdown it may hold.
func literal(s string) string {
	return "`" + strings.NewReplacer("`", "'", "\r\n", " ", "\n", " ").Replace(s) + "`"
}

// short abbreviates a digest for people.
func short(digest string) string {
	if len(digest) > 12 {
		return digest[:12]
	}
	return digest
}
