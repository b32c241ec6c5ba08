package workflows

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// PlainLimit is the most bytes of JSON that a value with a line for every stage of
// a run has in Temporal as it is. Temporal warns of values from 512 KB on and takes
// none above 2 MB, which experiments.MaxStages is chosen for: the plan of a larger
// run lies in the store, and its states and results travel compressed.
const PlainLimit = 256 << 10

// RunPlan names a run's plan in the store, a file of the run, and says of it what
// whoever starts the run has to know.
type RunPlan struct {
	Run    string `json:"run"` // workflow ID
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Stages int    `json:"stages"` // that it has
	// Last is the fingerprint of the last stage, which rests on all others, and
	// LastName its name.
	Last     string `json:"last"`
	LastName string `json:"last_name,omitempty"`
	// Systems are those whose replies are generated, Headline is nil where none is
	// evaluated.
	Systems  []experiments.System `json:"systems"`
	Headline *experiments.System  `json:"headline,omitempty"`
}

// plan says of the input's stages, or of those in the store, what RunPlan does.
func (in RunInput) plan() RunPlan {
	if in.Plan != nil {
		return *in.Plan
	}
	p := RunPlan{Stages: len(in.Stages)}
	seen := map[experiments.System]bool{}
	for _, s := range in.Stages {
		p.Last, p.LastName = s.Fingerprint, s.Name
		if sys, ok := experiments.SystemOf(s); ok && s.Kind == experiments.KindGenerate && !seen[sys] {
			seen[sys] = true
			p.Systems = append(p.Systems, sys)
		}
	}
	if sys, ok := experiments.Headline(in.Stages); ok {
		p.Headline = &sys
	}
	return p
}

// Last is the fingerprint of the run's last stage, which rests on all others: the
// report.
func (in RunInput) Last() string { return in.plan().Last }

// Planned is the same input with its plan in the store, as this file of this run.
func (in RunInput) Planned(run, file, sha256 string) RunInput {
	p := in.plan()
	p.Run, p.File, p.SHA256 = run, file, sha256
	in.Plan, in.Stages = &p, nil
	return in
}

// PlannedStages are the stages of a plan in the store, with the results of those
// that are in the store, too.
type PlannedStages struct {
	Stages []experiments.Stage `json:"stages"`
	Found  []StageResult       `json:"found"`
}

// readPlan has the plan read and every stage of it looked up.
func (r *run) readPlan(ctx workflow.Context) (map[string]StageResult, error) {
	var plan PlannedStages
	err := workflow.ExecuteActivity(r.lookupOptions(ctx, "what is planned, and what of it is in the store?"), nameOf(Activities.LookupPlan), *r.in.Plan).Get(ctx, &plan)
	if err != nil {
		return nil, err
	}
	return byStage(plan.Found), r.layOut(plan.Stages)
}

// lookupOptions are those of an activity that looks for stages in the store.
func (r *run) lookupOptions(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           r.in.Queues.Control,
		StartToCloseTimeout: lookupLimit,
		HeartbeatTimeout:    time.Duration(r.in.HeartbeatSeconds) * time.Second,
		Summary:             summary,
	})
}

// byStage files results by their stages' names.
func byStage(found []StageResult) map[string]StageResult {
	results := make(map[string]StageResult, len(found))
	for _, result := range found {
		results[result.Stage] = result
	}
	return results
}

// Keys are what LookupAll is asked for a plan.
func Keys(stages []experiments.Stage) ([]StageKey, error) {
	keys := make([]StageKey, len(stages))
	for i, s := range stages {
		content, err := s.Content()
		if err != nil {
			return nil, err
		}
		keys[i] = StageKey{Name: s.Name, Fingerprint: s.Fingerprint, Content: content, Inputs: s.Inputs}
	}
	return keys, nil
}

// unpackedLimit bounds what a compressed value may become.
const unpackedLimit = 64 << 20

// packed stands for a value of more than PlainLimit bytes of JSON.
type packed struct {
	Gzip []byte `json:"gzip"`
}

// pack is the JSON of a value, compressed where it is large.
func pack(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil || len(raw) <= PlainLimit {
		return raw, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(packed{b.Bytes()})
}

// unpack is the inverse of pack.
func unpack(raw []byte, v any) error {
	var p packed
	if err := json.Unmarshal(raw, &p); err != nil {
		return err
	}
	if p.Gzip == nil {
		return json.Unmarshal(raw, v)
	}
	z, err := gzip.NewReader(bytes.NewReader(p.Gzip))
	if err != nil {
		return fmt.Errorf("compressed JSON: %w", err)
	}
	whole, err := io.ReadAll(io.LimitReader(z, unpackedLimit))
	if err != nil {
		return fmt.Errorf("compressed JSON: %w", err)
	}
	return json.Unmarshal(whole, v)
}

// RunAnswer is a RunState as the answer to a query holds it.
type RunAnswer RunState

// MarshalJSON compresses what is large.
func (a RunAnswer) MarshalJSON() ([]byte, error) { return pack(RunState(a)) }

// UnmarshalJSON reads what MarshalJSON writes.
func (a *RunAnswer) UnmarshalJSON(raw []byte) error { return unpack(raw, (*RunState)(a)) }

// MarshalJSON compresses what is large.
func (r RunResult) MarshalJSON() ([]byte, error) {
	type plain RunResult
	return pack(plain(r))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *RunResult) UnmarshalJSON(raw []byte) error {
	type plain RunResult
	return unpack(raw, (*plain)(r))
}

// MarshalJSON compresses what is large.
func (p PlannedStages) MarshalJSON() ([]byte, error) {
	type plain PlannedStages
	return pack(plain(p))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *PlannedStages) UnmarshalJSON(raw []byte) error {
	type plain PlannedStages
	return unpack(raw, (*plain)(p))
}
