package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// Parameter is a parameter that differs between runs.
type Parameter struct {
	// Name is that of the stages' parameter, with as much of the stages' names
	// before it as it takes to tell which: "seed", "dpo.beta", "dpo/sp.beta".
	Name string `json:"name"`
	// Values are by run; "" where the run has no such stage, "–" where its
	// stage has no such parameter.
	Values []string `json:"values"`
}

// OfCode says that it is the version of the code, which no experiment sets.
func (p Parameter) OfCode() bool { return strings.HasSuffix(p.Name, codeVersion) }

// absent stands for a parameter that a stage lacks.
const absent = "–"

// codeVersion is the name under which the version of a kind's code stands
// among its parameters.
const codeVersion = "code version"

// Parameters lists the parameters that differ between the runs' stages. What
// differs alike in all stages that have it, such as a seed, is listed once.
func Parameters(runs []Run) []Parameter {
	// vectors[parameter][stage] are its values by run.
	vectors := map[string]map[string][]string{}
	kinds := map[string]experiments.Kind{}
	var order []string // of stages, as the DAG has them
	for i, r := range runs {
		for _, s := range r.Stages {
			if _, seen := kinds[s.Name]; !seen {
				kinds[s.Name] = s.Kind
				order = append(order, s.Name)
			}
			for name, v := range flatten(s) {
				if vectors[name] == nil {
					vectors[name] = map[string][]string{}
				}
				if vectors[name][s.Name] == nil {
					vectors[name][s.Name] = make([]string, len(runs))
				}
				vectors[name][s.Name][i] = v
			}
		}
	}
	// A stage that is there without the parameter is another thing than a
	// stage that is not there.
	for i, r := range runs {
		for _, s := range r.Stages {
			for _, byStage := range vectors {
				if v, ok := byStage[s.Name]; ok && v[i] == "" {
					v[i] = absent
				}
			}
		}
	}
	var found []Parameter
	for _, name := range slices.Sorted(maps.Keys(vectors)) {
		found = append(found, folded(name, vectors[name], order, kinds)...)
	}
	return found
}

// folded gives a parameter's differing vectors under the shortest names.
func folded(name string, byStage map[string][]string, order []string, kinds map[string]experiments.Kind) []Parameter {
	// Of those to whom it means something: an unused parameter is zero.
	var having []string
	for _, stage := range order {
		if v, ok := byStage[stage]; ok && slices.ContainsFunc(v, used) {
			having = append(having, stage)
		}
	}
	levels := []func(stage string) string{
		func(string) string { return name },
		func(stage string) string { return string(kinds[stage]) + "." + name },
		func(stage string) string { return strings.Join(firstTwo(stage), "/") + "." + name },
		func(stage string) string { return stage + "." + name },
	}
	if name == codeVersion { // a kind's, never a run's
		levels = levels[1:]
	}
	var out []Parameter
	for level, label := range levels {
		groups := map[string][]string{}
		var labels []string
		for _, stage := range having {
			l := label(stage)
			if groups[l] == nil {
				labels = append(labels, l)
			}
			groups[l] = append(groups[l], stage)
		}
		var rest []string
		for _, l := range labels {
			merged, alike := merge(groups[l], byStage)
			switch {
			case alike && differ(merged):
				out = append(out, Parameter{Name: l, Values: merged})
			case !alike && level < len(levels)-1:
				rest = append(rest, groups[l]...)
			}
		}
		having = rest
	}
	return out
}

func used(v string) bool {
	switch v {
	case "", absent, "0", "false", "null", "none":
		return false
	}
	return true
}

func firstTwo(stage string) []string {
	parts := strings.Split(stage, "/")
	return parts[:min(2, len(parts))]
}

// merge joins the vectors of stages; it is false where two disagree on a run
// that has both.
func merge(stages []string, byStage map[string][]string) ([]string, bool) {
	merged := slices.Clone(byStage[stages[0]])
	for _, stage := range stages[1:] {
		for i, v := range byStage[stage] {
			switch {
			case merged[i] == "":
				merged[i] = v
			case v != "" && v != merged[i]:
				return nil, false
			}
		}
	}
	return merged, true
}

// differ reports whether two runs that have the stage have different values.
func differ(values []string) bool {
	first := ""
	for _, v := range values {
		switch {
		case v == "":
		case first == "":
			first = v
		case v != first:
			return true
		}
	}
	return false
}

// flatten gives a stage's parameters by the paths of their keys.
func flatten(s experiments.Stage) map[string]string {
	out := map[string]string{codeVersion: strconv.Itoa(s.Version)}
	d := json.NewDecoder(bytes.NewReader(s.Params))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		out["parameters"] = string(s.Params)
		return out
	}
	// The report's own are the name that stands in the head of the table, and
	// copies of the others'.
	if s.Kind == experiments.KindReport {
		delete(tree, "name")
	}
	walk("", tree, out)
	return out
}

func walk(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for key, one := range v {
			at := key
			if path != "" {
				at = path + "." + key
			}
			walk(at, one, out)
		}
	case []any:
		texts := make([]string, len(v))
		for i, one := range v {
			texts[i] = text(one)
		}
		out[path] = strings.Join(texts, ", ")
		if len(v) == 0 {
			out[path] = "none"
		}
	default:
		out[path] = text(v)
	}
}

// text writes a value for people; a source file by its name and the beginning
// of its digest.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) > 60 {
			return fmt.Sprintf("%.57s…", v)
		}
		return v
	case json.Number:
		return v.String()
	case map[string]any:
		name, okName := v["name"].(string)
		sum, okSum := v["sha256"].(string)
		if okName && okSum {
			return fmt.Sprintf("%s@%.8s", name, sum)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(raw)
	}
	return fmt.Sprint(v)
}
