package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workflows"
)

// UnfinishedReport gives the data of a report of what is done of a run that goes on:
// in is its report stage. A system is in it once all that is measured of it is there
// for every seed; what judge.also says is left out. It is false while there is not
// even a corpus.
func (a *Activities) UnfinishedReport(ctx context.Context, in workflows.StageInput) (data report.Data, ok bool, err error) {
	params, err := experiments.ParamsOf[experiments.ReportParams](in.Stage)
	if err != nil {
		return data, false, err
	}
	params.AlsoJudged = nil
	lacking := map[string]bool{} // names without seeds, and systems
	for name, fingerprint := range in.Inputs {
		_, err := a.Store.Lookup(ctx, fingerprint)
		switch {
		case errors.Is(err, artifacts.ErrNotFound), errors.Is(err, artifacts.ErrDamaged):
			name = experiments.WithoutSeed(name)
			lacking[name] = true
			lacking[measuredSystem(name)] = true
		case err != nil:
			return data, false, fmt.Errorf("input %s: %w", name, err)
		}
	}
	if lacking[string(experiments.KindCorpus)] {
		return data, false, nil
	}
	delete(lacking, "")
	done := map[string]string{}
	for name, fingerprint := range in.Inputs {
		if plain := experiments.WithoutSeed(name); !lacking[plain] && !lacking[measuredSystem(plain)] {
			done[name] = fingerprint
		}
	}
	in.Inputs = done
	if err := os.MkdirAll(a.Scratch, 0o700); err != nil {
		return data, false, err
	}
	dir, err := os.MkdirTemp(a.Scratch, "unfinished-*")
	if err != nil {
		return data, false, err
	}
	defer os.RemoveAll(dir)
	t := &attempt{a: a, in: in, dir: dir, inputs: map[string]string{}, log: a.Log, pulse: &pulse{}} // nobody hears it
	systems := slices.DeleteFunc(params.Systems(), func(s experiments.System) bool { return lacking[s.Name()] })
	data, err = t.reportData(ctx, params, systems)
	return data, err == nil, err
}

// measuredSystem is the system of which a stage writes or measures replies, or the
// anchor; "" for all other stages, and for those that a report can do without.
func measuredSystem(stage string) string {
	kind, system, _ := strings.Cut(stage, "/")
	switch experiments.Kind(kind) {
	case experiments.KindAnchor:
		return stage
	case experiments.KindGenerate, experiments.KindScore, experiments.KindJudge, experiments.KindBias:
		return system
	}
	return ""
}
