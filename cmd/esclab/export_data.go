package main

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/pairs"
	"github.com/esclab/esclab/workflows/lab"
)

// The folders of what others train on: TRL's layout has one for each kind of data.
const (
	dirSFT     = "sft"
	dirPairs   = "pairs"
	dirFactory = "llamafactory"
)

// data writes what SFT learns from and the preference pairs, in TRL's layout and in
// LLaMA-Factory's. Pairs are those of each seed on their own; SFT learns the same with every seed.
func (x *exporter) data(ctx context.Context) error {
	if x.sft {
		if err := x.sftData(ctx); err != nil {
			return fmt.Errorf("%s: %w", dirSFT, err)
		}
	}
	for _, v := range seedViews(x.layout) {
		if err := x.pairData(ctx, v); err != nil {
			return fmt.Errorf("%s: %w", dirPairs, err)
		}
	}
	if len(x.sets) == 0 {
		return nil
	}
	described, err := pairs.Describe(x.sets)
	if err != nil {
		return err
	}
	return x.folder.write(path.Join(dirFactory, pairs.FileDescribed), origin{}, bytes.NewReader(described))
}

// set writes a set of data in both layouts. build builds it under a name.
func (x *exporter) set(dir, name string, from origin, build func(name string, format pairs.Format) (pairs.Set, error)) error {
	trl, err := build(name, pairs.TRL)
	if err != nil || trl.Len() == 0 {
		return err
	}
	factory, err := build(dir+"_"+name, pairs.LLaMAFactory)
	if err != nil {
		return err
	}
	x.sets = append(x.sets, factory)
	for dir, s := range map[string]pairs.Set{dir: trl, dirFactory: factory} {
		var lines bytes.Buffer
		if err := s.Write(&lines); err != nil {
			return err
		}
		if err := x.folder.write(path.Join(dir, s.File()), from, &lines); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) sftData(ctx context.Context) error {
	corpus, ok := x.done[string(experiments.KindCorpus)]
	if !ok {
		return nil // it is named among what is missing
	}
	files, err := results.Open(ctx, x.se.node.Store, corpus.Fingerprint)
	if err != nil {
		return err
	}
	train, err := results.ReadDialogues(files, results.FileTrain)
	if err != nil {
		return err
	}
	from, turns := origin{string(experiments.KindCorpus), corpus.Digest}, esc.AllTurns(train)
	for _, role := range esc.Roles() {
		stage, ok := x.layout.Stage(string(experiments.KindSFT) + "/" + string(role))
		if !ok {
			continue
		}
		params, err := experiments.ParamsOf[experiments.SFTParams](stage)
		if err != nil {
			return err
		}
		prompts, err := params.RolePrompts()
		if err != nil {
			return err
		}
		if err := x.set(dirSFT, string(role), from, func(name string, format pairs.Format) (pairs.Set, error) {
			return pairs.SFTSet(name, format, prompts, role, turns)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) pairData(ctx context.Context, v seedView) error {
	for _, s := range v.layout.Of(experiments.KindMine) {
		role, err := esc.ParseRole(strings.TrimPrefix(s.Name, string(experiments.KindMine)+"/"))
		if err != nil {
			return err
		}
		name, stage := string(role), s.Name
		if v.seed != "" {
			name, stage = name+"@"+v.seed, stage+"@"+v.seed
		}
		m, ok := x.done[stage]
		if !ok {
			continue // it is named among what is missing
		}
		found, err := x.se.readMined(ctx, v.layout, []esc.Role{role})
		if err != nil {
			return err
		}
		if err := x.set(dirPairs, name, origin{stage, m.Digest}, func(name string, format pairs.Format) (pairs.Set, error) {
			return pairs.PairSet(name, format, found.prompts, role, found.pairs)
		}); err != nil {
			return err
		}
	}
	return nil
}

// seedView is a run as one of its seeds sees it: the stages that all share and
// its own, under their plain names.
type seedView struct {
	seed   string // "" where the run has one seed
	layout lab.Layout
}

func seedViews(l lab.Layout) []seedView {
	var seeds []string
	for _, s := range l.Stages {
		if _, seed, own := strings.Cut(s.Name, "@"); own && !slices.Contains(seeds, seed) {
			seeds = append(seeds, seed)
		}
	}
	if len(seeds) == 0 {
		return []seedView{{layout: l}}
	}
	var views []seedView
	for _, seed := range seeds {
		v := seedView{seed: seed, layout: lab.Layout{Name: l.Name}}
		for _, s := range l.Stages {
			plain, of, own := strings.Cut(s.Name, "@")
			if own && of != seed {
				continue
			}
			s.Name = plain
			v.layout.Stages = append(v.layout.Stages, s)
		}
		views = append(views, v)
	}
	return views
}
