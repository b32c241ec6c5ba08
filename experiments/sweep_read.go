package experiments

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// sweepKeys are the keys of a sweep, in the order of the documentation.
var sweepKeys = []string{"name", "base", "set", "grid", "cells", "exclude", "seeds", "parallel", "priority", "early_stopping"}

// sweepFields are those of a sweep's keys that are plain values.
type sweepFields struct {
	Name          string        `yaml:"name"`
	Base          string        `yaml:"base"`
	Seeds         []uint64      `yaml:"seeds"`
	Parallel      int           `yaml:"parallel"`
	Priority      int           `yaml:"priority"`
	EarlyStopping EarlyStopping `yaml:"early_stopping"`
}

// ReadSweep decodes a sweep from YAML as strictly as Read does an experiment.
// A base that is a relative path lies below dir. The overrides change the base
// after the sweep's own set:. The error is Problems, each with its line.
func ReadSweep(file string, content []byte, dir string, sets ...string) (Sweep, error) {
	r := &sweepReader{decoder: newDecoder(file), nodes: map[string]ast.Node{}}
	r.keys(content)
	s := Sweep{file: file}
	fields := sweepFields{Parallel: DefaultParallel, Priority: DefaultPriority, EarlyStopping: defaultEarlyStopping()}
	into := reflect.ValueOf(&fields).Elem()
	for _, key := range sweepKeys {
		node, there := r.nodes[key]
		field, plain := fieldByKey(into, key)
		if there && plain {
			r.value(key, node, field)
		}
	}
	s.Name, s.BaseName, s.Seeds, s.Parallel, s.Priority, s.EarlyStopping = fields.Name, fields.Base, fields.Seeds, fields.Parallel, fields.Priority, fields.EarlyStopping
	if len(r.problems) == 0 {
		r.base(&s, dir, sets)
	}
	if len(s.Seeds) > 0 {
		s.Base.Seeds = []uint64{} // a cell each instead of all in one run
	}
	if len(r.problems) == 0 {
		r.grid(&s)
		s.Cells = r.assignments("cells", s.Base)
		s.Exclude = r.assignments("exclude", s.Base)
		r.check(s)
	}
	if err := r.problems.err(); err != nil {
		return Sweep{}, err
	}
	return s, nil
}

type sweepReader struct {
	*decoder
	nodes map[string]ast.Node
}

// keys finds the top-level keys.
func (r *sweepReader) keys(content []byte) {
	if len(content) > maxFileBytes {
		r.fail(0, "", "%d bytes are more than a sweep's %d", len(content), maxFileBytes)
		return
	}
	root, ok := r.parse(content)
	if !ok {
		return
	}
	if root == nil {
		r.fail(0, "", "the file is empty; `esclab presets demo-sweep` shows a sweep")
		return
	}
	m, ok := root.(ast.MapNode)
	if !ok {
		r.fail(lineOf(root), "", "wants keys and values (%s), has %s", strings.Join(sweepKeys, ", "), describe(root))
		return
	}
	for it := m.MapRange(); it.Next(); {
		key := it.Key().GetToken().Value
		if !slices.Contains(sweepKeys, key) {
			hint := didYouMean(key, sweepKeys)
			if hint == "" && fieldOfExperiment(key) {
				hint = "; a field of the experiment goes under set: (the same in every cell) or grid: (varied)"
			}
			if hint == "" {
				hint = "; a sweep has " + strings.Join(sweepKeys, ", ")
			}
			r.fail(lineOf(it.Key()), "", "unknown key %q%s", key, hint)
			continue
		}
		r.lines[key] = lineOf(it.Key())
		r.nodes[key] = it.Value()
	}
}

// fieldOfExperiment says whether a key begins, or is, the path of a field.
func fieldOfExperiment(key string) bool {
	return slices.ContainsFunc(Keys(), func(k string) bool { return k == key || strings.HasPrefix(k, key+".") })
}

// base loads the base experiment and applies set: and the overrides.
func (r *sweepReader) base(s *Sweep, dir string, sets []string) {
	if s.BaseName == "" {
		r.fail(0, "base", "is missing; it names the experiment to vary: a preset (%s) or a YAML file", strings.Join(Presets(), ", "))
		return
	}
	if !slices.Contains(Presets(), s.BaseName) && dir != "" && !filepath.IsAbs(s.BaseName) {
		s.BaseName = filepath.Join(dir, s.BaseName)
	}
	exp, err := Load(s.BaseName)
	if err != nil {
		for _, p := range problemsOf(err) {
			r.fail(r.lines["base"], "base", "%s", p.String())
		}
		return
	}
	if node, there := r.nodes["set"]; there {
		if set, ok := r.assignment("set", node, exp); ok {
			exp, err = applied(exp, set.Set)
			if err != nil { // each was tried; together they cannot fail
				r.fail(set.line, "set", "%s", err)
			}
		}
	}
	over := newDecoder(overrides)
	for _, assignment := range sets {
		if err := Set(&exp, assignment); err != nil {
			over.problems = append(over.problems, problemsOf(err)...)
		}
	}
	r.problems = append(r.problems, over.problems...)
	s.Base = exp
}

// grid reads the axes.
func (r *sweepReader) grid(s *Sweep) {
	node, there := r.nodes["grid"]
	if !there {
		return
	}
	m, ok := node.(ast.MapNode)
	if !ok {
		r.fail(lineOf(node), "grid", "wants fields with their values, like dpo.loss: [dpo, ipo]; has %s", describe(node))
		return
	}
	for it := m.MapRange(); it.Next(); {
		path, line := it.Key().GetToken().Value, lineOf(it.Key())
		at := "grid." + path
		values, ok := r.axis(at, it.Value())
		if !ok {
			continue
		}
		good := true
		for i, v := range values {
			good = r.try(s.Base, at, line, path, v) && good
			if slices.Contains(values[:i], v) {
				r.fail(line, at, "has the value %s twice", v)
			}
			if !good {
				break // the others would say the same
			}
		}
		if slices.ContainsFunc(s.Grid, func(a Axis) bool { return a.Path == path }) {
			r.fail(line, at, "stands in the grid twice")
		}
		s.Grid = append(s.Grid, Axis{Path: path, Values: values, line: line})
	}
}

// try says whether the base takes a value, and reports where it does not.
func (r *sweepReader) try(base Experiment, at string, line int, path, value string) bool {
	if path == "name" {
		r.fail(line, at, "a cell's experiment is named after the sweep and the cell; vary another field")
		return false
	}
	exp := base.Clone()
	err := Set(&exp, path+"="+value)
	for _, p := range problemsOf(err) {
		r.fail(line, at, "%s", p.Message)
	}
	return err == nil
}

// assignments reads a list of cells or exclusions.
func (r *sweepReader) assignments(key string, base Experiment) []Assignment {
	node, there := r.nodes[key]
	if !there {
		return nil
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		r.fail(lineOf(node), key, "wants a list, like - {dpo.loss: kto, dpo.roles.*.beta: 0.1}; has %s", describe(node))
		return nil
	}
	var out []Assignment
	for _, item := range list.Values {
		if a, ok := r.assignment(key, item, base); ok {
			out = append(out, a)
		}
	}
	return out
}

// assignment reads fields with one value each.
func (r *sweepReader) assignment(key string, n ast.Node, base Experiment) (Assignment, bool) {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.fail(lineOf(n), key, "wants fields with a value each, like {dpo.loss: kto}; has %s", describe(n))
		return Assignment{}, false
	}
	a, good := Assignment{line: lineOf(n)}, true
	for it := m.MapRange(); it.Next(); {
		path, line := it.Key().GetToken().Value, lineOf(it.Key())
		if len(a.Set) == 0 {
			a.line = line
		}
		text, ok := r.text(key+"."+path, it.Value())
		good = ok && r.try(base, key+"."+path, line, path, text) && good
		a.Set = append(a.Set, path+"="+text)
	}
	if len(a.Set) == 0 {
		r.fail(a.line, key, "is empty; name at least one field")
		return a, false
	}
	return a, good
}

// check looks at what the fields demand of each other.
func (r *sweepReader) check(s Sweep) {
	v := &validator{}
	if !namePattern.MatchString(s.Name) || len(s.Name) > maxName/2 {
		v.fail("name", "is %q; a sweep's name has up to %d lower-case letters, digits, '.', '_' or '-' and begins with a letter or digit", s.Name, maxName/2)
	}
	if len(s.Grid) == 0 && len(s.Cells) == 0 && len(s.Seeds) == 0 {
		v.fail("grid", "is missing: a sweep has a grid:, a list of cells:, or several seeds:")
	}
	for i, seed := range s.Seeds {
		if slices.Contains(s.Seeds[:i], seed) {
			v.fail("seeds", "%d stands in the list twice", seed)
		}
	}
	if len(s.Seeds) > 0 && slices.ContainsFunc(s.Grid, func(a Axis) bool { return a.Path == "seed" }) {
		v.fail("seeds", "the grid varies seed already; use one of the two")
	}
	v.between("parallel", s.Parallel, 1, 1000)
	v.between("priority", s.Priority, 1, 5)
	v.earlyStopping(s)
	r.problems = append(r.problems, r.locate(v.problems)...)
}
