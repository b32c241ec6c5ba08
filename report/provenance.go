package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// evaluated are the kinds of stages that a system's numbers come from.
var evaluated = []experiments.Kind{experiments.KindGenerate, experiments.KindAnchor, experiments.KindScore, experiments.KindJudge, experiments.KindBias}

// sources finds the stages of the kinds for the names ("decoupled/dpo" of
// generate/decoupled/dpo, "anchor/gold" itself, under every seed), in the order of the DAG. Without
// names, all of the kinds.
func (d Data) sources(names []string, kinds ...experiments.Kind) []Stage {
	var found []Stage
	for _, s := range d.Provenance {
		if !slices.Contains(kinds, experiments.Kind(s.Kind)) {
			continue
		}
		name := experiments.WithoutSeed(s.Name)
		rest := strings.TrimPrefix(strings.TrimPrefix(name, s.Kind), "/")
		if names == nil || slices.Contains(names, rest) || slices.Contains(names, name) {
			found = append(found, s)
		}
	}
	return found
}

// systemNames names rows as their stages do.
func systemNames(rows []Row) []string {
	names := make([]string, 0, len(rows))
	for _, r := range rows {
		names = append(names, r.System())
	}
	return names
}

// inline lists the digests of a stage's inputs for a table: name and digest,
// abbreviated.
func (s Stage) inline() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.Inputs)) {
		digest := s.Inputs[name]
		all = append(all, name+" "+digest[:min(12, len(digest))])
	}
	if len(all) > 6 {
		return fmt.Sprintf("%d artifacts", len(all))
	}
	return strings.Join(all, ", ")
}

// provenanceSection names every artifact, and those that it was made from.
func provenanceSection(d Data, _ paper) (section, error) {
	t := table{
		Caption: "Every stage whose artifact this report rests on, and the artifacts that it was made from",
		Heads:   []head{{Text: "Stage"}, {Text: "Fingerprint"}, {Text: "Artifact"}, {Text: "Made from"}, {Text: "Engine"}},
	}
	for _, st := range d.Provenance {
		engine, from := st.Engine, st.inline()
		if engine == "" {
			engine = absent
		}
		if from == "" {
			from = absent
		}
		name := text(st.Name)
		name.ID = st.Anchor()
		t.Rows = append(t.Rows, []cell{name, code(st.Fingerprint), code(st.Digest), text(from), text(engine)})
	}
	t.Folded = true
	return section{ID: "provenance", Title: "Provenance", Tables: nonEmpty(t)}, nil
}

// Anchor is the id of a stage's row in the provenance.
func (s Stage) Anchor() string {
	return "stage-" + strings.NewReplacer("/", "-", "@", "-seed-").Replace(s.Name)
}

// Short abbreviates the artifact's digest for people.
func (s Stage) Short() string { return s.Digest[:min(12, len(s.Digest))] }
