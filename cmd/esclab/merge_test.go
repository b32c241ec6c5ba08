package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// `merge` writes a model that answers as base and adapter did, and measures the rounding of what it wrote.
func TestMerge(t *testing.T) {
	dir := sharedPath(t, "weights", "stories260K")
	_, saved, examples := trainedAdapter(t, goEngine(t), dir)
	in := jsonl(t, "ids", examples[0].Sequences[0].Tokens, []int32{1, 5, 9, 300, 44, 8}, []int32{7})
	compare := filepath.Join(t.TempDir(), "ids.jsonl")
	if err := os.WriteFile(compare, []byte(in), 0o600); err != nil {
		t.Fatal(err)
	}
	logprobs := func(model, adapter string) []float64 {
		var out bytes.Buffer
		if err := new(app).runLogprobs(t.Context(), logprobsOptions{model: model, adapter: adapter, engine: "go", batch: 1}, strings.NewReader(in), "in", &out); err != nil {
			t.Fatal(err)
		}
		var all []float64
		for _, row := range answers[[]float64](t, &out, "logprobs") {
			all = append(all, row...)
		}
		return all
	}
	with, without := logprobs(dir, saved), logprobs(dir, "")
	apart := func(a, b []float64) (most float64) {
		for i := range a {
			most = max(most, math.Abs(a[i]-b[i]))
		}
		return most
	}
	var mean [2]float64
	for i, dtype := range []string{"float32", "bfloat16"} {
		f := mergeOptions{model: dir, adapter: saved, out: filepath.Join(t.TempDir(), "merged"), compare: compare, dtype: dtype, engine: "go", asJSON: true}
		var out bytes.Buffer
		if err := new(app).runMerge(t.Context(), f, strings.NewReader(""), &out); err != nil {
			t.Fatal(err)
		}
		var m merging
		if err := json.Unmarshal(out.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		d := m.Divergence
		if m.DType != dtype || len(m.Files) != 1 || m.Matrices != 35 || d == nil || d.Sequences != 2 || d.Tokens != 9 {
			t.Fatalf("%s", &out)
		}
		mean[i] = d.MeanAbs
		// What it says is what one sees.
		if got := apart(logprobs(f.out, ""), with); math.Abs(got-d.MaxAbs) > 1e-5 {
			t.Errorf("%s: tokens up to %v apart, the command says %v", dtype, got, d.MaxAbs)
		}
		if changed := apart(with, without); d.MaxAbs > changed/2 || changed < 1e-3 {
			t.Errorf("%s: divergence %v, the adapter itself changes %v", dtype, d.MaxAbs, changed)
		}
		if err := new(app).runMerge(t.Context(), f, strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("the merged model was overwritten: %v", err)
		}
		// Without --json and without data.
		f.out, f.compare, f.asJSON = f.out+"2", "", false
		out.Reset()
		if err := new(app).runMerge(t.Context(), f, strings.NewReader(""), &out); err != nil || !strings.Contains(out.String(), "not measured") {
			t.Errorf("%v: %s", err, &out)
		}
	}
	if mean[0] > 1e-5 || mean[1] < 10*mean[0] {
		t.Errorf("mean differences %v: float32 is not exact, or bfloat16's rounding does not show", mean)
	}

	// Refused before anything is written.
	parent := t.TempDir()
	good := mergeOptions{model: dir, adapter: saved, out: filepath.Join(parent, "m"), dtype: "float32", engine: "go"}
	for name, change := range map[string]func(f *mergeOptions) string{
		"--dtype":   func(f *mergeOptions) string { f.dtype = "int8"; return "int8" },
		"--model":   func(f *mergeOptions) string { f.model = saved; return "--model" },
		"--adapter": func(f *mergeOptions) string { f.adapter = dir; return "--adapter" },
		"--compare": func(f *mergeOptions) string { f.compare = compare + "x"; return "--compare" },
		"bad line":  func(f *mergeOptions) string { f.compare = "-"; return "standard input:1" },
		"--engine":  func(f *mergeOptions) string { f.compare, f.engine = compare, "none"; return "--engine" },
	} {
		f := good
		want := change(&f)
		if err := new(app).runMerge(t.Context(), f, strings.NewReader(`{"ids": [1, 512]}`), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", name, err, want)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
