package experiments

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
)

// Queue is the class of worker a stage needs; settings map it to a task queue.
type Queue string

const (
	QueueControl Queue = "control" // light: reads, counts, draws
	QueueCPU     Queue = "cpu"     // runs a model on CPU cores
	QueueGPU     Queue = "gpu"     // runs a model on the worker's best device
)

// Stage is a node of the DAG: a pure function of Params and Inputs. It is plain
// data that travels as JSON.
type Stage struct {
	Name string `json:"name"` // unique in the plan: "dpo/vm/all"
	Kind Kind   `json:"kind"`
	// Version of the kind's code, see kinds.go.
	Version int `json:"version"`
	// Params is the canonical JSON of the kind's parameters; ParamsOf decodes it.
	Params json.RawMessage `json:"params"`
	// Inputs maps the name under which the stage knows an input to the stage
	// that makes it.
	Inputs map[string]string `json:"inputs"`
	Queue  Queue             `json:"queue"`
	// Source is where on this machine the stage's source files lie (corpus and
	// base alone), SplitIndexSource where the corpus' index file does. Params
	// has their digests; the places are no part of the fingerprint.
	Source           string `json:"source"`
	SplitIndexSource string `json:"split_index_source"`
	// JudgeAccess says how the stage's judge is asked, where that is not as the
	// experiment's judge is; no part of the fingerprint.
	JudgeAccess *JudgeAccess `json:"judge_access,omitempty"`
	// Fresh, where it is set, is part of the fingerprint and of nothing else: a
	// result that is there under another fingerprint is made anew. See Freshen.
	Fresh string `json:"fresh,omitempty"`
	// Fingerprint identifies the result; empty while source files are missing.
	Fingerprint string `json:"fingerprint"`
}

// NewStage makes a stage of the parameters' kind with its current code version,
// queue and canonical parameters, without a fingerprint.
func NewStage(name string, params any, inputs map[string]string) (Stage, error) {
	row, err := kindOf(params)
	if err != nil {
		return Stage{}, fmt.Errorf("stage %s: %w", name, err)
	}
	raw, err := Canonical(params)
	if err != nil {
		return Stage{}, fmt.Errorf("stage %s: parameters: %w", name, err)
	}
	if inputs == nil {
		inputs = map[string]string{}
	}
	return Stage{Name: name, Kind: row.kind, Version: row.version, Params: raw, Queue: row.queue, Inputs: inputs}, nil
}

// ParamsOf decodes a stage's parameters as P, for instance
// ParamsOf[SFTParams](stage). It fails where P belongs to another kind or where
// the JSON has a field P does not know (a plan made by another version).
func ParamsOf[P any](s Stage) (P, error) {
	var p P
	row, err := kindOf(p)
	if err != nil {
		return p, fmt.Errorf("stage %s: %w", s.Name, err)
	}
	if row.kind != s.Kind {
		return p, fmt.Errorf("stage %s: it is of kind %s, its parameters were asked for as those of %s", s.Name, s.Kind, row.kind)
	}
	d := json.NewDecoder(bytes.NewReader(s.Params))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("stage %s: parameters: %w (was it planned by another version of esclab?)", s.Name, err)
	}
	return p, nil
}

// Summary says in a few words what the stage does.
func (s Stage) Summary() string {
	does := s.Kind.row().does
	if does == "" {
		return s.Name
	}
	if _, of, ok := strings.Cut(WithoutSeed(s.Name), "/"); ok {
		role, _, _ := strings.Cut(of, "/")
		does = strings.ReplaceAll(does, "ROLE", "the "+esc.Role(role).Words())
	}
	return s.Name + ": " + does
}

// Canonical is the one JSON form of a value: keys sorted, no white space, every
// field present, numbers as encoding/json writes them, no HTML escapes.
func Canonical(v any) (json.RawMessage, error) {
	first, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(first))
	d.UseNumber() // a float64 would lose the digits of a large seed
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil { // maps are written in key order
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// errNoStage is wrapped where an input names a stage that does not come before.
var errNoStage = errors.New("no earlier stage of that name")
