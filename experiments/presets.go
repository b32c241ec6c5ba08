package experiments

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Presets names the experiments in the binary: the smallest first.
func Presets() []string {
	return []string{"demo", "tiny-esconv", "smollm2-135m", "smollm2-135m-full", "qwen2.5-7b", "llama3.1-8b"}
}

// PresetYAML is a preset's file, header and comments included.
func PresetYAML(name string) ([]byte, error) {
	content, err := presetFiles.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no preset %q%s; the presets are %s", name, didYouMean(name, Presets()), strings.Join(Presets(), ", "))
	}
	return content, nil
}

// Load reads a preset by its name or an experiment from a file, applies the
// overrides ("path=value") in their order, and validates the outcome. A name
// with a separator or the ending .yaml or .yml is a file; so is any other that
// is no preset but exists. The error is Problems where the content is wrong.
func Load(nameOrPath string, sets ...string) (Experiment, error) {
	file, content, err := open(nameOrPath)
	if err != nil {
		return Experiment{}, err
	}
	d := newDecoder(file)
	exp := Defaults()
	d.document(content, &exp)

	over := newDecoder(overrides)
	touched := map[string]bool{}
	for _, assignment := range sets {
		path, _, _ := strings.Cut(assignment, "=")
		path = strings.TrimSpace(path)
		if err := Set(&exp, assignment); err != nil {
			over.problems = append(over.problems, problemsOf(err)...)
			d.broken[path] = true
			continue
		}
		touched[path] = true
	}
	problems := append(d.problems, over.problems...)
	for _, p := range validated(exp, d.broken) {
		located := d
		if within(p.Path, touched) {
			located = over
		}
		problems = append(problems, located.locate(Problems{p})...)
	}
	if err := problems.err(); err != nil {
		return Experiment{}, err
	}
	return exp, nil
}

// validated gives what validation finds wrong, without what may come of fields that
// could not be read: it is of such a field, of one within or around it, or names it.
func validated(exp Experiment, broken map[string]bool) Problems {
	if broken[""] {
		return nil
	}
	return slices.DeleteFunc(problemsOf(exp.Validate()), func(p Problem) bool {
		for path := range broken {
			named := strings.Contains(path, ".") && strings.Contains(p.Message, path)
			if named || within(path, map[string]bool{p.Path: true}) {
				return true
			}
		}
		return within(p.Path, broken)
	})
}

// within says whether an override set the path or something around it.
func within(path string, touched map[string]bool) bool {
	for path != "" {
		if touched[path] {
			return true
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return false
}

// open finds the content and how problems name it.
func open(nameOrPath string) (file string, content []byte, err error) {
	ext := filepath.Ext(nameOrPath)
	isFile := ext == ".yaml" || ext == ".yml" || strings.ContainsAny(nameOrPath, `/\`)
	if !isFile {
		if content, err = PresetYAML(nameOrPath); err == nil {
			return "preset " + nameOrPath, content, nil
		}
		if _, statErr := os.Stat(nameOrPath); statErr != nil {
			return "", nil, err
		}
	}
	f, err := os.Open(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("experiment %s: no such file (or name a preset: %s)", nameOrPath, strings.Join(Presets(), ", "))
	}
	if err != nil {
		return "", nil, fmt.Errorf("experiment: %w", err)
	}
	defer f.Close()
	content, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1)) // the reader reports what is longer
	if err != nil {
		return "", nil, fmt.Errorf("experiment %s: %w", nameOrPath, err)
	}
	return nameOrPath, content, nil
}
