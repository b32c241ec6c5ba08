package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// SweepPlan is a sweep ready to run, as one document: the base and what each
// cell changes in it. A cell's stages follow from it, so that a plan of
// thousands of cells stays small.
type SweepPlan struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Directory is where relative paths of the experiment begin.
	Directory string     `json:"directory"`
	Base      Experiment `json:"base"`
	// Sources are those of the cells, each once.
	Sources       []Sources     `json:"sources"`
	Varied        []string      `json:"varied"` // paths, in the order of the file
	EarlyStopping EarlyStopping `json:"early_stopping"`
	Cells         []PlannedCell `json:"cells"`
}

// PlannedCell is a cell with what identifies its result.
type PlannedCell struct {
	Cell
	Source int `json:"source"` // index into Sources
	// Fingerprint is that of the cell's last stage.
	Fingerprint string `json:"fingerprint"`
}

// sweepPlanVersion is the version of the document's format.
const sweepPlanVersion = 1

// PlanSweep expands a sweep and plans every cell. sources finds a cell's source
// files, once for each combination of what names them; its error says which are
// missing, and such a plan can be shown but not run: it comes with the error.
func PlanSweep(s Sweep, directory string, sources func(Experiment) (Sources, error)) (SweepPlan, error) {
	cells, err := s.Expand()
	if err != nil {
		return SweepPlan{}, err
	}
	p := SweepPlan{Version: sweepPlanVersion, Name: s.Name, Directory: directory, Base: s.Base, Varied: s.Varied(), EarlyStopping: s.EarlyStopping}
	known := map[string]int{}
	var missing []error
	for _, cell := range cells {
		exp, err := p.Experiment(cell)
		if err != nil {
			return SweepPlan{}, err
		}
		key := sourceKey(exp)
		source, found := known[key]
		if !found {
			one, err := sources(exp)
			if err != nil {
				missing = append(missing, err)
			}
			source = len(p.Sources)
			known[key] = source
			p.Sources = append(p.Sources, one)
		}
		p.Cells = append(p.Cells, PlannedCell{Cell: cell, Source: source})
		_, stages, err := p.plan(len(p.Cells) - 1)
		if err != nil {
			return SweepPlan{}, err
		}
		p.Cells[len(p.Cells)-1].Fingerprint = stages[len(stages)-1].Fingerprint
	}
	if stage := s.EarlyStopping.Stage; s.EarlyStopping.On() {
		_, stages, err := p.plan(0)
		if err == nil && !slices.ContainsFunc(stages, func(st Stage) bool { return st.Name == stage }) {
			return SweepPlan{}, fmt.Errorf("sweep %s: early_stopping.stage: no stage %q in cell %s; esclab run %s --plan lists the stages", s.Name, stage, p.Cells[0].Name, s.BaseName)
		}
	}
	return p, errors.Join(missing...)
}

// sourceKey holds all that decides which files an experiment reads.
func sourceKey(e Experiment) string {
	return fmt.Sprintf("%q %q %q %v %q %q", e.Corpus.Source, e.Corpus.Split.Index, e.Backbone.Path, e.Backbone.Tiny != nil, e.Judge.Kind, e.Judge.Prompts)
}

// Experiment is what a cell runs.
func (p SweepPlan) Experiment(c Cell) (Experiment, error) {
	exp, err := applied(p.Base, c.Set)
	exp.Name = CellExperiment(p.Name, c.Name)
	return exp, err
}

// Stages gives a cell's experiment and its DAG. It fails where the plan was
// made by another version of esclab, which would compute something else.
func (p SweepPlan) Stages(cell int) (Experiment, []Stage, error) {
	exp, stages, err := p.plan(cell)
	if err != nil {
		return exp, nil, err
	}
	if got, want := stages[len(stages)-1].Fingerprint, p.Cells[cell].Fingerprint; got != want {
		return exp, nil, fmt.Errorf("sweep %s: cell %s is planned as %s here and was as %s where the sweep was started: the two are different versions of esclab; use one", p.Name, p.Cells[cell].Name, Short(got), Short(want))
	}
	return exp, stages, nil
}

func (p SweepPlan) plan(cell int) (Experiment, []Stage, error) {
	if cell < 0 || cell >= len(p.Cells) {
		return Experiment{}, nil, fmt.Errorf("sweep %s has no cell %d; it has %d", p.Name, cell, len(p.Cells))
	}
	c := p.Cells[cell]
	exp, err := p.Experiment(c.Cell)
	if err != nil {
		return exp, nil, fmt.Errorf("sweep %s: cell %s: %w", p.Name, c.Name, err)
	}
	stages, err := Plan(exp, p.Sources[c.Source])
	if err != nil {
		return exp, nil, fmt.Errorf("sweep %s: cell %s: %w", p.Name, c.Name, err)
	}
	for i := range stages {
		// The worker that reads them may have another working directory.
		for _, path := range []*string{&stages[i].Source, &stages[i].SplitIndexSource} {
			if *path != "" && *path != SourceDemo && !Remote(*path) && !filepath.IsAbs(*path) {
				*path = filepath.Join(p.Directory, *path)
			}
		}
	}
	return exp, stages, nil
}

// Values gives the cell's value of each varied field, in their order. A field
// with a wildcard has one value where all it stands for are equal.
func (p SweepPlan) Values(cell int) []string {
	exp, err := p.Experiment(p.Cells[cell].Cell)
	if err != nil {
		return make([]string, len(p.Varied))
	}
	return valuesOf(exp, p.Varied)
}

func valuesOf(exp Experiment, paths []string) []string {
	out := make([]string, len(paths))
	d := newDecoder("")
	for i, path := range paths {
		for k, one := range d.wildcards(path) {
			v, err := Get(exp, one)
			text := fmt.Sprint(v)
			switch {
			case err != nil:
				text = ""
			case v == nil:
				text = "null"
			}
			if k > 0 && text != out[i] {
				out[i] = "various"
				break
			}
			out[i] = text
		}
	}
	return out
}

// ShortNames abbreviates the varied fields for headings, in their order.
func (p SweepPlan) ShortNames() []string {
	short := shortNames(p.Varied)
	out := make([]string, len(p.Varied))
	for i, path := range p.Varied {
		out[i] = short[path]
	}
	return out
}

// Identity names what the sweep computes: its name, its cells and how they are
// given up; not how many run at the same time.
func (p SweepPlan) Identity() string {
	h := sha256.New()
	e, _ := json.Marshal(p.EarlyStopping) // a plain struct
	fmt.Fprintf(h, "%s\n%s\n", p.Name, e)
	for _, c := range p.Cells {
		fmt.Fprintf(h, "%s %s\n", c.Name, c.Fingerprint)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Extend adds the cells of another plan of the same sweep that this one lacks
// and returns how many. Cells keep their places and their names.
func (p *SweepPlan) Extend(more SweepPlan) (int, error) {
	if p.Name != more.Name {
		return 0, fmt.Errorf("sweep %s cannot take cells of sweep %s", p.Name, more.Name)
	}
	// A cell's changes are to its own plan's base.
	mine, err := Canonical(p.Base)
	if err != nil {
		return 0, err
	}
	theirs, err := Canonical(more.Base)
	if err != nil {
		return 0, err
	}
	if string(mine) != string(theirs) {
		return 0, fmt.Errorf("sweep %s: the base has changed since the sweep was started; start a sweep of another name", p.Name)
	}
	names := map[string]bool{}
	results := map[string]bool{} // fingerprints count the name, so compare what is set as well
	for i, c := range p.Cells {
		names[c.Name] = true
		results[fmt.Sprint(p.effective(i))] = true
	}
	added := 0
	for i, c := range more.Cells {
		key := fmt.Sprint(more.effective(i))
		if results[key] {
			continue
		}
		if names[c.Name] {
			c.Name = hashedName(p.Name, c.Name, c.Set)
		}
		c.Source = p.source(more.Sources[c.Source])
		p.Cells = append(p.Cells, c)
		_, stages, err := p.plan(len(p.Cells) - 1)
		if err != nil {
			return 0, err
		}
		p.Cells[len(p.Cells)-1].Fingerprint = stages[len(stages)-1].Fingerprint
		names[c.Name], results[key] = true, true
		added++
	}
	for _, path := range more.Varied {
		if !slices.Contains(p.Varied, path) {
			p.Varied = append(p.Varied, path)
		}
	}
	return added, nil
}

// effective is a cell's experiment without its name.
func (p SweepPlan) effective(cell int) string {
	exp, err := applied(p.Base, p.Cells[cell].Set)
	exp.Name = ""
	raw, jsonErr := Canonical(exp)
	if err != nil || jsonErr != nil {
		return p.Cells[cell].Fingerprint
	}
	return string(raw)
}

// source finds or adds sources.
func (p *SweepPlan) source(s Sources) int {
	want, _ := json.Marshal(s) // plain structs
	for i, have := range p.Sources {
		if got, _ := json.Marshal(have); string(got) == string(want) {
			return i
		}
	}
	p.Sources = append(p.Sources, s)
	return len(p.Sources) - 1
}

// Marshal writes the plan as a document; ReadSweepPlan reads it.
func (p SweepPlan) Marshal() ([]byte, error) { return json.Marshal(p) }

// ReadSweepPlan reads a plan's document.
func ReadSweepPlan(data []byte) (SweepPlan, error) {
	p := SweepPlan{Base: Defaults()} // of fields that a plan from before them lacks
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("plan of a sweep: %w", err)
	}
	if p.Version != sweepPlanVersion {
		return p, fmt.Errorf("plan of sweep %s: format version %d, this program knows %d; use the release that started the sweep", p.Name, p.Version, sweepPlanVersion)
	}
	return p, nil
}
