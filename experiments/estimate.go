package experiments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// PastStage is how long a finished stage took.
type PastStage struct {
	Kind    Kind
	Params  json.RawMessage
	Seconds float64
	Bytes   int64 // that its process had held at most when it ended; 0: not known
}

// Estimator guesses how long stages take from those that are done.
type Estimator struct {
	past  map[Kind][]pastStage
	cache map[string]Estimate
}

type pastStage struct {
	leaves  map[string]string
	seconds float64
	bytes   int64
}

// Estimate is a guess at one stage's seconds: the median of Past finished
// stages of its kind, those whose parameters differ from its own in the fewest
// values (Differ of them). Past 0: nothing is known.
type Estimate struct {
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"` // the most that a process with one of them has held
	Past    int     `json:"past"`
	Differ  int     `json:"differ"`
}

// NewEstimator learns from finished stages.
func NewEstimator(past []PastStage) *Estimator {
	e := &Estimator{past: map[Kind][]pastStage{}}
	e.Learn(past...)
	return e
}

// Learn adds finished stages.
func (e *Estimator) Learn(past ...PastStage) {
	for _, p := range past {
		e.past[p.Kind] = append(e.past[p.Kind], pastStage{leavesOf(p.Params), p.Seconds, p.Bytes})
	}
	e.cache = map[string]Estimate{}
}

// Estimate guesses one stage's time.
func (e *Estimator) Estimate(s Stage) Estimate {
	key := string(s.Kind) + string(s.Params)
	if known, ok := e.cache[key]; ok {
		return known
	}
	mine := leavesOf(s.Params)
	var nearest Estimate
	var seconds []float64
	for _, p := range e.past[s.Kind] {
		d := differing(mine, p.leaves)
		if len(seconds) > 0 && d > nearest.Differ {
			continue
		}
		if d < nearest.Differ {
			seconds, nearest.Bytes = seconds[:0], 0
		}
		nearest.Differ = d
		seconds = append(seconds, p.seconds)
		nearest.Bytes = max(nearest.Bytes, p.bytes)
	}
	if len(seconds) > 0 {
		slices.Sort(seconds)
		nearest.Seconds, nearest.Past = middle(seconds), len(seconds)
	}
	e.cache[key] = nearest
	return nearest
}

// leavesOf flattens parameters: path to value.
func leavesOf(params json.RawMessage) map[string]string {
	out := map[string]string{}
	d := json.NewDecoder(bytes.NewReader(params))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err == nil { // what cannot be read resembles nothing
		flatten("", tree, out)
	}
	return out
}

func flatten(path string, tree any, out map[string]string) {
	switch t := tree.(type) {
	case map[string]any:
		for k, v := range t {
			flatten(path+"."+k, v, out)
		}
	case []any:
		for i, v := range t {
			flatten(fmt.Sprintf("%s[%d]", path, i), v, out)
		}
	default:
		out[path] = fmt.Sprint(t)
	}
}

func differing(a, b map[string]string) int {
	n := 0
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			n++
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			n++
		}
	}
	return n
}

// SweepEstimate sums up what a sweep has still to do.
type SweepEstimate struct {
	// Work is the sum of the known stages' seconds, Longest that of the longest
	// chain of stages within a cell.
	Work    float64 `json:"work_seconds"`
	Longest float64 `json:"longest_chain_seconds"`
	// Unknown counts the stages of which none like them has finished yet.
	Unknown int `json:"unknown"`
}

// Wall is about how long the work takes with so many stages at the same time.
func (e SweepEstimate) Wall(parallel int) float64 {
	return max(e.Work/float64(max(parallel, 1)), e.Longest)
}

// Chain gives the seconds of the longest chain of a cell's stages that are to
// be run.
func Chain(stages []Stage, run func(Stage) float64) float64 {
	ends := map[string]float64{}
	longest := 0.0
	for _, s := range stages {
		begin := 0.0
		for _, input := range s.Inputs {
			begin = max(begin, ends[input])
		}
		ends[s.Name] = begin + run(s)
		longest = max(longest, ends[s.Name])
	}
	return longest
}
