package experiments

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Kind is what a stage does.
type Kind string

const (
	KindCorpus    Kind = "corpus"    // read, check and split the dialogues
	KindBase      Kind = "base"      // import a checkpoint, or train tokenizer and tiny model
	KindSFT       Kind = "sft"       // train one role's adapter
	KindMine      Kind = "mine"      // sample from the SFT model, route errors into pairs
	KindReference Kind = "reference" // the SFT model's log-probabilities of the pairs
	KindDPO       Kind = "dpo"       // train the adapter on the pairs
	KindGenerate  Kind = "generate"  // reply to the test turns
	KindScore     Kind = "score"     // distinct-1, BLEU-1, F1, ROUGE-L
	KindJudge     Kind = "judge"     // fluency, professionalism, empathy, helpfulness
	KindBias      Kind = "bias"      // preference bias, weighted and macro F1
	KindPrefer    Kind = "prefer"    // which of two systems' replies the judge prefers
	KindQuality   Kind = "quality"   // the judge's scores of chosen and rejected responses
	KindReport    Kind = "report"    // Table 3 beside the paper's
)

// Kinds lists the kinds in the order of the DAG.
func Kinds() []Kind {
	return []Kind{KindCorpus, KindBase, KindSFT, KindMine, KindReference, KindDPO,
		KindGenerate, KindScore, KindJudge, KindBias, KindPrefer, KindQuality, KindReport}
}

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
	// Version of the kind's code, see versions.go.
	Version int `json:"version"`
	// Params is the canonical JSON of the kind's Params; ParamsOf decodes it.
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
	// Fresh, where it is set, is part of the fingerprint and of nothing else: a
	// result that is there under another fingerprint is made anew. See Freshen.
	Fresh string `json:"fresh,omitempty"`
	// Fingerprint identifies the result; empty while source files are missing.
	Fingerprint string `json:"fingerprint"`
}

// NewStage makes a stage of the params' kind with its current code version and
// canonical parameters, without a fingerprint.
func NewStage(name string, p Params, queue Queue, inputs map[string]string) (Stage, error) {
	raw, err := Canonical(p)
	if err != nil {
		return Stage{}, fmt.Errorf("stage %s: parameters: %w", name, err)
	}
	if inputs == nil {
		inputs = map[string]string{}
	}
	return Stage{Name: name, Kind: p.Kind(), Version: Version(p.Kind()), Params: raw, Queue: queue, Inputs: inputs}, nil
}

// ParamsOf decodes a stage's parameters as T, for instance
// ParamsOf[SFTParams](stage). It fails where T belongs to another kind or where
// the JSON has a field T does not know (a plan made by another version).
func ParamsOf[T Params](s Stage) (T, error) {
	var p T
	if p.Kind() != s.Kind {
		return p, fmt.Errorf("stage %s: it is of kind %s, its parameters were asked for as those of %s", s.Name, s.Kind, p.Kind())
	}
	d := json.NewDecoder(bytes.NewReader(s.Params))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("stage %s: parameters: %w (was it planned by another version of esclab?)", s.Name, err)
	}
	return p, nil
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
