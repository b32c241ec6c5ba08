package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
)

// reportSamples is how many test turns the report shows with every system's
// reply.
const reportSamples = 6

// runReport puts a run's results beside the paper's.
func runReport(ctx context.Context, t *attempt, params experiments.ReportParams) (output, error) {
	data, err := t.reportData(ctx, params, params.Systems())
	if err != nil {
		return output{}, err
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{"systems": float64(len(data.Systems))}}
	files, err := report.Files(data)
	if err != nil {
		return output{}, err
	}
	for _, f := range files {
		if out.files[f.Name], err = t.create(f.Name, func(w *os.File) error { _, err := w.Write(f.Data); return err }); err != nil {
			return output{}, err
		}
	}
	return out, nil
}

// reporter reads what a report shows from the inputs' artifacts.
type reporter struct {
	*attempt
	params experiments.ReportParams
	shown  []experiments.System
	seeds  []uint64
	test   []esc.Turn
	phases map[esc.Place]int // of the test turns
	data   report.Data
}

func (t *attempt) reportData(ctx context.Context, params experiments.ReportParams, shown []experiments.System) (report.Data, error) {
	r := &reporter{attempt: t, params: params, shown: shown, seeds: params.Seeds}
	if len(r.seeds) == 0 {
		r.seeds = []uint64{params.Seed}
	}
	r.data.Run = report.Run{Experiment: params.Name, Backbone: params.Backbone, Seed: params.Seed, Seeds: params.Seeds}
	for _, step := range []func(context.Context) error{
		r.corpus, r.backbone, r.training, r.pairs, r.quality, r.systems, r.given, r.wins, r.otherJudges, r.provenance,
	} {
		if err := step(ctx); err != nil {
			return r.data, err
		}
	}
	return r.data, nil
}

// corpus counts the dialogues, and keeps the test turns.
func (r *reporter) corpus(ctx context.Context) error {
	corpus, err := readCorpus(ctx, r.attempt, results.FileTrain, results.FileValid, results.FileTest)
	if err != nil {
		return err
	}
	for _, part := range []string{results.FileTrain, results.FileValid, results.FileTest} {
		r.data.Corpus = append(r.data.Corpus, report.Split{
			Name: strings.TrimSuffix(part, ".json"), Statistics: esc.ComputeStatistics(corpus[part]), Phases: esc.CountPhases(corpus[part]),
		})
	}
	r.phases = map[esc.Place]int{}
	for _, d := range corpus[results.FileTest] {
		turns := esc.Turns(d)
		r.test = append(r.test, turns...)
		for _, turn := range turns {
			r.phases[turn.Place()] = esc.Phase(turn.Index, len(turns))
		}
	}
	return nil
}

// backbone says what was quantised of a backbone that came as a GGUF file.
func (r *reporter) backbone(ctx context.Context) error {
	for _, name := range r.names(experiments.KindBase) {
		m, err := r.a.Store.Lookup(ctx, r.in.Inputs[name])
		if err != nil {
			return inputError(name, err)
		}
		if _, says := m.Files[experiments.GenerationConfigFile]; says {
			if err := r.ownSampling(ctx, name); err != nil {
				return err
			}
		}
		if _, quantized := m.Files[results.FileQuantization]; !quantized {
			continue
		}
		dir, err := r.input(ctx, name, results.FileQuantization)
		if err != nil {
			return err
		}
		data, err := results.Dir(dir).ReadFile(results.FileQuantization)
		var q results.Quantization
		if err = cmp.Or(err, json.Unmarshal(data, &q)); err != nil {
			return fmt.Errorf("input %s: %s: %w", name, results.FileQuantization, err)
		}
		r.data.Run.Quantization = lm.QuantizationText(q.Tensors)
	}
	return nil
}

// ownSampling notes where the backbone's own generation_config.json wants
// replies sampled otherwise than they were.
func (r *reporter) ownSampling(ctx context.Context, base string) error {
	replies := r.names(experiments.KindGenerate)
	if len(replies) == 0 {
		return nil
	}
	m, err := r.a.Store.Lookup(ctx, r.in.Inputs[replies[0]]) // all are sampled alike
	if err != nil {
		return inputError(replies[0], err)
	}
	var p experiments.GenerateParams
	if err := json.Unmarshal(m.Params, &p); err != nil {
		return fmt.Errorf("input %s: parameters in the manifest: %w", replies[0], err)
	}
	dir, err := r.input(ctx, base, experiments.GenerationConfigFile)
	if err != nil {
		return err
	}
	file, err := results.Dir(dir).ReadFile(experiments.GenerationConfigFile)
	if err != nil {
		return fmt.Errorf("input %s: %w", base, err)
	}
	unlike, err := experiments.UnlikeOwnSampling(file, p.Sampling)
	if err != nil {
		return badInput(fmt.Errorf("input %s: %w", base, err))
	}
	if unlike != "" {
		r.data.Notes = append(r.data.Notes, fmt.Sprintf("The backbone's own %s has %s; generation.repetition_penalty and generation.top_k set them.", experiments.GenerationConfigFile, unlike))
	}
	return nil
}

// names gives the inputs of a kind, in the order of the alphabet.
func (t *attempt) names(kind experiments.Kind) []string {
	var names []string
	for name := range t.in.Inputs {
		if experiments.WithoutSeed(name) == string(kind) || strings.HasPrefix(name, string(kind)+"/") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// at is the name of the input that holds a stage for a seed: the seed's own, or
// one that all seeds share. ok is false where there is neither.
func (r *reporter) at(name string, seed uint64) (input string, ok bool) {
	if own := experiments.AtSeed(name, seed); r.in.Inputs[own] != "" {
		return own, true
	}
	return name, r.in.Inputs[name] != ""
}

// provenance names every stage the report rests on, and what each was made from.
func (r *reporter) provenance(ctx context.Context) error {
	engines := map[string]bool{}
	for _, kind := range experiments.Kinds() {
		for _, name := range r.names(kind) {
			m, err := r.a.Store.Lookup(ctx, r.in.Inputs[name])
			if err != nil {
				return inputError(name, err)
			}
			if kind == experiments.KindGenerate && r.data.Run.Temperature == nil {
				var p experiments.GenerateParams
				if err := json.Unmarshal(m.Params, &p); err != nil {
					return fmt.Errorf("parameters of %s: %w", name, err)
				}
				r.data.Run.Temperature = report.Value(p.Temperature)
			}
			r.data.Provenance = append(r.data.Provenance, report.Stage{
				Name: name, Kind: string(kind), Fingerprint: m.Fingerprint, Digest: m.Digest, Engine: m.Engine, Inputs: m.Inputs,
			})
			if m.Engine != "" {
				engines[m.Engine] = true
			}
		}
	}
	var used []string
	for e := range engines {
		used = append(used, e)
	}
	slices.Sort(used)
	r.data.Run.Engine = strings.Join(used, ", ")
	return nil
}
