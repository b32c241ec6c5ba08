package experiments

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Sweep is one YAML file: a base experiment, and cells that differ from it in
// some of its fields. LoadSweep and ReadSweep make one, Expand lays its cells
// out.
type Sweep struct {
	// Name stands in the sweep's ID and in its cells' names; the rules are an
	// experiment's.
	Name string
	// BaseName is the preset or file that the cells vary; Base is what it holds,
	// with the sweep's set: applied.
	BaseName string
	Base     Experiment

	Grid    []Axis       // every combination is a cell
	Cells   []Assignment // more cells, one by one
	Exclude []Assignment // combinations that are left out
	Seeds   []uint64     // every cell once for each; empty: the base's own

	Parallel int // cells at the same time
	// Priority of the cells' stages on the task queues, 1 (first) to 5 (last).
	Priority      int
	EarlyStopping EarlyStopping

	file string // that problems name
}

// Axis is one varied field with its values.
type Axis struct {
	Path   string   // as Set takes it: "dpo.loss", "dpo.roles.*.beta"
	Values []string // as Set takes them
	line   int
}

// Assignment is several fields with a value each, "path=value" as Set takes
// them, in the order of the file.
type Assignment struct {
	Set  []string
	line int
}

// Cell is one point of a sweep.
type Cell struct {
	// Name says what is special about the cell: "loss-ipo_beta-0.2". It depends
	// on the fields that vary and on their values, not on the cell's place.
	Name string `json:"name"`
	// Set lists what the cell changes in the base, "path=value".
	Set []string `json:"set"`
}

// Limits of a sweep.
const (
	DefaultParallel = 2
	DefaultPriority = 4 // behind interactive runs, which have Temporal's default
	// PriorityInteractive is what a run has that names no priority.
	PriorityInteractive = 3
	maxCells            = 10_000
)

//go:embed sweeps/*.yaml
var sweepFiles embed.FS

// SweepPresets names the sweeps in the binary.
func SweepPresets() []string { return []string{"demo-sweep"} }

// SweepPresetYAML is a sweep preset's file, comments included.
func SweepPresetYAML(name string) ([]byte, error) {
	content, err := sweepFiles.ReadFile("sweeps/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no sweep %q%s; the presets are %s", name, didYouMean(name, SweepPresets()), strings.Join(SweepPresets(), ", "))
	}
	return content, nil
}

// LoadSweep reads a sweep preset by its name or a sweep from a file, and
// applies overrides of the base ("path=value"). Names and files are told apart
// as by Load. The error is Problems where the content is wrong.
func LoadSweep(nameOrPath string, sets ...string) (Sweep, error) {
	file, dir := nameOrPath, filepath.Dir(nameOrPath)
	var content []byte
	var err error
	if ext := filepath.Ext(nameOrPath); ext != ".yaml" && ext != ".yml" && !strings.ContainsAny(nameOrPath, `/\`) {
		if content, err = SweepPresetYAML(nameOrPath); err == nil {
			return ReadSweep("sweep preset "+nameOrPath, content, "", sets...)
		}
		if _, statErr := os.Stat(nameOrPath); statErr != nil {
			return Sweep{}, err
		}
	}
	f, err := os.Open(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		return Sweep{}, fmt.Errorf("sweep %s: no such file (or name a preset: %s)", nameOrPath, strings.Join(SweepPresets(), ", "))
	}
	if err != nil {
		return Sweep{}, fmt.Errorf("sweep: %w", err)
	}
	defer f.Close()
	if content, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1)); err != nil {
		return Sweep{}, fmt.Errorf("sweep %s: %w", nameOrPath, err)
	}
	return ReadSweep(file, content, dir, sets...)
}

// Expand lays out the cells: the grid row by row with the first axis slowest,
// then the explicit cells, each once for every seed; what exclude: matches and
// what repeats an earlier cell is left out. Every cell is validated as an
// experiment. The error is Problems.
func (s Sweep) Expand() ([]Cell, error) {
	d := newDecoder(s.file)
	points := s.points()
	if n := len(points) * max(len(s.Seeds), 1); n > maxCells {
		return nil, fmt.Errorf("sweep %s: %d cells are more than %d; split it", s.Name, n, maxCells)
	}
	paths := s.Varied()
	short := shortNames(paths)
	var cells []Cell
	seen, names := map[string]bool{}, map[string]bool{}
	excluded := make([]bool, len(s.Exclude))
	for _, p := range points {
		for _, seed := range s.seeds() {
			set := p.Set
			if seed != "" {
				set = append(slices.Clone(set), seed)
			}
			cell := Cell{Set: set}
			exp, err := s.experiment(cell)
			if err != nil {
				for _, problem := range problemsOf(err) {
					if key := problem.Path + problem.Message; !seen[key] { // the other cells would say the same
						seen[key] = true
						d.fail(p.line, problem.Path, "%s (in the cell %s)", problem.Message, strings.Join(set, " "))
					}
				}
				continue
			}
			if s.excludes(exp, excluded) {
				continue
			}
			exp.Name = ""
			key, err := Canonical(exp)
			if err != nil {
				return nil, fmt.Errorf("sweep %s: cell %s: %w", s.Name, strings.Join(set, " "), err)
			}
			if seen[string(key)] {
				continue
			}
			seen[string(key)] = true
			cell.Name = cellName(s.Name, set, short)
			if names[cell.Name] { // values that differ only in what names leave out
				cell.Name = hashedName(s.Name, cell.Name, set)
			}
			names[cell.Name] = true
			cells = append(cells, cell)
		}
	}
	for i, used := range excluded {
		if !used && len(d.problems) == 0 {
			d.fail(s.Exclude[i].line, "exclude", "%s matches no cell; correct it or leave it out", strings.Join(s.Exclude[i].Set, " "))
		}
	}
	if err := d.problems.err(); err != nil {
		return nil, err
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("sweep %s has no cells: exclude leaves none", s.Name)
	}
	return cells, nil
}

// Varied lists the paths of the fields in which cells may differ, in the order
// of the file.
func (s Sweep) Varied() []string {
	var paths []string
	add := func(path string) {
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	for _, axis := range s.Grid {
		add(axis.Path)
	}
	for _, c := range s.Cells {
		for _, assignment := range c.Set {
			path, _, _ := strings.Cut(assignment, "=")
			add(path)
		}
	}
	if len(s.Seeds) > 0 {
		add("seed")
	}
	return paths
}

// points lays out grid and explicit cells, without seeds.
func (s Sweep) points() []Assignment {
	var out []Assignment
	if len(s.Grid) > 0 {
		grid := []Assignment{{}}
		for _, axis := range s.Grid {
			var next []Assignment
			for _, p := range grid {
				for _, v := range axis.Values {
					next = append(next, Assignment{Set: append(slices.Clone(p.Set), axis.Path+"="+v), line: axis.line})
				}
			}
			if grid = next; len(grid) > maxCells {
				break
			}
		}
		out = grid
	}
	out = append(out, s.Cells...)
	if len(out) == 0 {
		out = []Assignment{{}} // seeds alone
	}
	return out
}

func (s Sweep) seeds() []string {
	if len(s.Seeds) == 0 {
		return []string{""}
	}
	out := make([]string, len(s.Seeds))
	for i, seed := range s.Seeds {
		out[i] = fmt.Sprintf("seed=%d", seed)
	}
	return out
}

// experiment is a cell's experiment, validated but for its name.
func (s Sweep) experiment(c Cell) (Experiment, error) {
	exp, err := applied(s.Base, c.Set)
	if err != nil {
		return exp, err
	}
	return exp, exp.Validate()
}

// applied is a copy of base with overrides.
func applied(base Experiment, set []string) (Experiment, error) {
	exp := base.Clone()
	for _, assignment := range set {
		if err := Set(&exp, assignment); err != nil {
			return exp, err
		}
	}
	return exp, nil
}

// excludes says whether an entry of exclude: describes the experiment, and
// notes which.
func (s Sweep) excludes(exp Experiment, used []bool) bool {
	for i, e := range s.Exclude {
		// It does where assigning its values changes nothing.
		same, err := applied(exp, e.Set)
		if err == nil && reflect.DeepEqual(same, exp.Clone()) {
			used[i] = true
			return true
		}
	}
	return false
}
