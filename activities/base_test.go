package activities

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// TestImportFromBucket imports a backbone from an S3 service: what the plan
// named arrives, what has changed since is refused.
func TestImportFromBucket(t *testing.T) {
	model, err := filepath.Abs("../../shared/weights/stories260K")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(model); err != nil {
		t.Skipf("no reference model: %v", err)
	}
	g := storetest.StartGateway(t)
	c := g.Config()
	c.Prefix = "models/tiny"
	bucket := g.Open(t, c)
	for _, name := range []string{"config.json", "model.safetensors"} {
		f, err := os.Open(filepath.Join(model, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(bucket.Put(t.Context(), name, f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	uri := "s3://" + c.Bucket + "/" + c.Prefix
	asked := ""
	a := &Activities{Remote: func(_ context.Context, uri string) (artifacts.Backend, error) {
		asked = uri
		return bucket, nil
	}}
	host := experiments.OS(nil)
	exp := experiments.Defaults()
	exp.Corpus.Source, exp.Backbone.Path = "demo", model
	sources, err := experiments.SourceDigests(exp, host)
	var missing *experiments.MissingSourceError
	if err != nil && !errors.As(err, &missing) { // the model has no tokenizer.json
		t.Fatal(err)
	}
	var files []experiments.FileDigest
	for _, f := range sources.Checkpoint.Files {
		if f.SHA256 != "" && f.Name != "tokenizer.json" {
			files = append(files, f)
		}
	}
	if len(files) != 2 {
		t.Fatalf("the model has %+v", sources.Checkpoint.Files)
	}
	dir := t.TempDir()
	run := func(f func(ctx context.Context, t *attempt) error) error { return attemptOn(t, a, dir, uri, f) }
	imported := func() error {
		return run(func(ctx context.Context, s *attempt) error {
			_, err := importBase(ctx, s, experiments.BaseParams{Files: files})
			return err
		})
	}
	err = run(func(ctx context.Context, s *attempt) (err error) {
		dir, err = fetchFiles(ctx, s, uri, files)
		return err
	})
	if err != nil || asked != uri {
		t.Fatalf("%v, asked for %q", err, asked)
	}
	for _, f := range files {
		if err := checkDigest(filepath.Join(dir, f.Name), f.SHA256); err != nil {
			t.Error(err)
		}
	}
	// The tokenizer is what this checkpoint lacks: everything before that is fine.
	if err = imported(); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("import without a tokenizer: %v", err)
	}
	if err := bucket.Put(t.Context(), "config.json", strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	if err = imported(); err == nil || !strings.Contains(err.Error(), "config.json has changed since the run was planned") {
		t.Errorf("a changed file: %v", err)
	}
	if err := bucket.Delete(t.Context(), "model.safetensors"); err != nil {
		t.Fatal(err)
	}
	if err = imported(); !errors.Is(err, artifacts.ErrNotFound) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// attemptOn runs a function on a stage with a source, as an activity: heartbeats need one.
func attemptOn(t *testing.T, a *Activities, dir, source string, f func(ctx context.Context, t *attempt) error) (result error) {
	t.Helper()
	env := new(testsuite.WorkflowTestSuite).NewTestActivityEnvironment()
	body := func(ctx context.Context) error {
		s := &attempt{a: a, dir: dir, in: workflows.StageInput{Stage: experiments.Stage{Source: source}}, pulse: startPulse(ctx)}
		defer s.pulse.end()
		result = f(ctx, s)
		return nil
	}
	env.RegisterActivity(body)
	if _, err := env.ExecuteActivity(body); err != nil {
		t.Fatal(err)
	}
	return result
}

// TestImportGGUF imports a GGUF file: what is stored is a checkpoint in Hugging Face's layout, and what was quantised.
func TestImportGGUF(t *testing.T) {
	path := reference.SmolLM2(t)
	exp := experiments.Defaults()
	exp.Corpus.Source, exp.Backbone.Path = "demo", path
	sources, err := experiments.SourceDigests(exp, experiments.OS(nil))
	if err != nil {
		t.Fatal(err)
	}
	files := sources.Checkpoint.Files
	if len(files) != 1 || files[0].Bytes != 98362432 {
		t.Fatalf("the plan rests on %+v, want the file alone", files)
	}
	err = attemptOn(t, &Activities{}, t.TempDir(), path, func(ctx context.Context, s *attempt) error {
		out, err := importBase(ctx, s, experiments.BaseParams{Files: files})
		if err != nil {
			return err
		}
		got := slices.Sorted(maps.Keys(out.files))
		if want := []string{"config.json", "model.safetensors", "quantization.json", "tokenizer.json", "tokenizer_config.json"}; !slices.Equal(got, want) {
			t.Errorf("the artifact has %v, want %v", got, want)
		}
		var q results.Quantization
		data, err := os.ReadFile(out.files[results.FileQuantization])
		if err := errors.Join(err, json.Unmarshal(data, &q)); err != nil {
			return err
		}
		if q.File != filepath.Base(path) || q.Tensors["Q4_1"] != 210 {
			t.Errorf("quantization.json says %+v, want the file's name and 210 tensors in Q4_1", q)
		}
		files[0].SHA256 = strings.Repeat("0", 64)
		if _, err := importBase(ctx, s, experiments.BaseParams{Files: files}); err == nil || !strings.Contains(err.Error(), "has changed since the run was planned") {
			t.Errorf("a changed file gives %v, want it refused", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
