package compare

import (
	"fmt"
	"maps"
	"slices"

	"github.com/esclab/esclab/experiments"
)

// Part is a stage at which two DAGs part: its inputs are the same in both
// runs, or it has other inputs, and its fingerprint is another.
type Part struct {
	Stage   string   `json:"stage"`
	Reasons []string `json:"reasons"` // what differs: "beta: 0.1, 0.3"
	A       string   `json:"a"`       // fingerprints
	B       string   `json:"b"`
}

// DAGs says how two runs' DAGs relate.
type DAGs struct {
	Shared  []string `json:"shared"`  // the same fingerprint in both
	Parts   []Part   `json:"parts"`   // where they part
	Follows []string `json:"follows"` // differ only because an input does
	OnlyA   []string `json:"only_a"`
	OnlyB   []string `json:"only_b"`
}

// Differ finds where two plans part, in the order of the DAG.
func Differ(a, b []experiments.Stage) DAGs {
	d := DAGs{Shared: []string{}, Parts: []Part{}, Follows: []string{}, OnlyA: []string{}, OnlyB: []string{}}
	ofB := map[string]experiments.Stage{}
	for _, s := range b {
		ofB[s.Name] = s
	}
	ofA := map[string]experiments.Stage{}
	for _, s := range a {
		ofA[s.Name] = s
		other, ok := ofB[s.Name]
		switch {
		case !ok:
			d.OnlyA = append(d.OnlyA, s.Name)
		case s.Fingerprint != "" && s.Fingerprint == other.Fingerprint:
			d.Shared = append(d.Shared, s.Name)
		default:
			if reasons := reasons(s, other); len(reasons) > 0 {
				d.Parts = append(d.Parts, Part{Stage: s.Name, Reasons: reasons, A: s.Fingerprint, B: other.Fingerprint})
			} else {
				d.Follows = append(d.Follows, s.Name)
			}
		}
	}
	for _, s := range b {
		if _, ok := ofA[s.Name]; !ok {
			d.OnlyB = append(d.OnlyB, s.Name)
		}
	}
	return d
}

// reasons says in what two stages of a name differ by themselves.
func reasons(a, b experiments.Stage) []string {
	var out []string
	if a.Kind != b.Kind {
		out = append(out, fmt.Sprintf("kind: %s, %s", a.Kind, b.Kind))
	}
	x, y := flatten(a), flatten(b)
	if a.Kind == experiments.KindReport { // its name is its own parameter
		x["name"], y["name"] = reportName(a), reportName(b)
	}
	keys := map[string]bool{}
	for _, m := range []map[string]string{x, y} {
		for k := range m {
			keys[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		v, okV := x[k]
		w, okW := y[k]
		if !okV {
			v = absent
		}
		if !okW {
			w = absent
		}
		if v != w {
			out = append(out, fmt.Sprintf("%s: %s, %s", k, v, w))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Inputs)) {
		if _, ok := b.Inputs[name]; !ok {
			out = append(out, "input "+name+": the first alone")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Inputs)) {
		if _, ok := a.Inputs[name]; !ok {
			out = append(out, "input "+name+": the second alone")
		}
	}
	return out
}

func reportName(s experiments.Stage) string {
	p, err := experiments.ParamsOf[experiments.ReportParams](s)
	if err != nil {
		return ""
	}
	return p.Name
}
