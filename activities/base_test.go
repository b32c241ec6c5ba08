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
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/internal/reference"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models/modelstest"
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

// TestImportedFiles puts files beside a checkpoint: each is imported and fingerprinted, or refused by the base stage, or
// decides nothing. A template has to be there, and to render what the later stages will ask for.
func TestImportedFiles(t *testing.T) {
	const template = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
	type effect int
	const (
		counts effect = iota
		nothing
		refused
	)
	jinja := func(text string) map[string]string { return map[string]string{"chat_template.jinja": text} }
	for name, c := range map[string]struct {
		bare   bool // tokenizer_config.json has no template
		files  map[string]string
		effect effect
		names  string // what the refusal says
	}{
		"the template of its own":              {true, jinja(template), counts, ""},
		"a template beside another":            {false, jinja(template), counts, ""},
		"a template with CRLF":                 {true, jinja(strings.ReplaceAll(template, "{%", "\r\n{%-")), counts, ""},
		"no template":                          {true, nil, refused, "there is no chat template"},
		"an empty template":                    {false, jinja(""), refused, "there is no chat template"},
		"a template that does not compile":     {false, jinja("{% for m in %}"), refused, "chat template"},
		"a template that fails":                {false, jinja("{{ messages[0].parts[0].text }}" + template), refused, "chat template"},
		"no system message":                    {false, jinja("{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + template), refused, "System role not supported"},
		"one turn alone":                       {false, jinja("{% if messages | length > 2 %}{{ raise_exception('one turn alone') }}{% endif %}" + template), refused, "one turn alone"},
		"a template that is no UTF-8":          {false, jinja("\xff" + template), refused, "UTF-8"},
		"further templates":                    {false, map[string]string{"chat_template.jinja": template, "additional_chat_templates/tool_use.jinja": "T"}, counts, ""},
		"further templates alone":              {false, map[string]string{"additional_chat_templates/rag.jinja": "T"}, refused, "additional_chat_templates"},
		"a further one of the default's name":  {false, map[string]string{"chat_template.jinja": template, "additional_chat_templates/default.jinja": "T"}, refused, "default.jinja"},
		"a processor's template":               {false, map[string]string{"chat_template.json": `{"chat_template": "x"}`}, nothing, ""},
		"a processor's template alone":         {true, map[string]string{"chat_template.json": `{"chat_template": "x"}`}, refused, "chat_template.json belongs to a processor"},
		"special_tokens_map.json":              {false, map[string]string{"special_tokens_map.json": `{"pad_token": "<|end|>"}`}, counts, ""},
		"special_tokens_map.json, no JSON":     {false, map[string]string{"tokenizer_config.json": `{"eos_token": "<|end|>"}`, "special_tokens_map.json": "{"}, refused, "special_tokens_map.json"},
		"added_tokens.json":                    {false, map[string]string{"added_tokens.json": `{"<|end|>": 5}`}, counts, ""},
		"added_tokens.json of another model":   {false, map[string]string{"tokenizer_config.json": `{"eos_token": "<|end|>"}`, "added_tokens.json": `{"<|more|>": 5}`}, refused, "added_tokens.json"},
		"generation_config.json":               {false, map[string]string{"generation_config.json": `{"eos_token_id": [1, 2]}`}, counts, ""},
		"generation_config.json with an error": {false, map[string]string{"generation_config.json": `{"eos_token_id": [1.5]}`}, refused, "generation_config.json"},
		"a tokenizer_config.json of words":     {false, map[string]string{"tokenizer_config.json": `{"eos_token": 5}`}, refused, "eos_token"},
		"vocab.json and merges.txt":            {false, map[string]string{"vocab.json": "{}", "merges.txt": "x"}, nothing, ""},
		"a README":                             {false, map[string]string{"README.md": "x", ".gitattributes": "x"}, nothing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			modelstest.Random(t, dir, 64)
			if c.bare {
				dropTemplate(t, dir)
			}
			before := checkpointFiles(t, dir)
			for name, text := range c.files {
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			after := checkpointFiles(t, dir)
			s := &attempt{a: &Activities{}, pulse: &pulse{}, dir: t.TempDir(), in: workflows.StageInput{Stage: experiments.Stage{Source: dir}}}
			out, err := importBase(t.Context(), s, experiments.BaseParams{Files: after})
			if c.effect == refused {
				if err == nil || !strings.Contains(err.Error(), c.names) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the base stage's error has to say %q on one line, it is: %v", c.names, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("the base stage fails: %v", err)
			}
			if same := slices.Equal(before, after); same != (c.effect == nothing) {
				t.Errorf("the files that make the fingerprint are the same as without: %v, want %v", same, c.effect == nothing)
			}
			for name := range c.files {
				if _, imported := out.files[name]; imported != (c.effect == counts && !strings.Contains(name, "/")) {
					t.Errorf("%s is imported: %v, want %v", name, imported, !imported)
				}
			}
		})
	}
}

// checkpointFiles are the files of a checkpoint that a plan has fingerprinted.
func checkpointFiles(t *testing.T, dir string) []experiments.FileDigest {
	t.Helper()
	exp := experiments.Defaults()
	exp.Corpus.Source, exp.Backbone.Path = "demo", dir
	sources, err := experiments.SourceDigests(exp, experiments.OS(nil))
	if err != nil {
		t.Fatal(err)
	}
	return sources.Checkpoint.Files
}

// TestTemplateFileAlone runs the stages from import to generation on a backbone whose template stands in
// chat_template.jinja alone, as transformers 5 saves it: the trained model is given what that template renders.
func TestTemplateFileAlone(t *testing.T) {
	losses := map[string]float64{}
	for name, template := range map[string]string{
		"one":   "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
		"other": "{% for m in messages %}## {{ m.role | upper }}: {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}## ASSISTANT: {% endif %}",
	} {
		dir := t.TempDir()
		modelstest.Random(t, dir, 512)
		if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(template), 0o600); err != nil {
			t.Fatal(err)
		}
		dropTemplate(t, dir)
		l := newLab(t, chattest.New(t), "corpus.source="+shortCorpus(t), "engine=go", "backbone.tiny=null", "backbone.path="+dir,
			"generation.max_new_tokens=8", "sft.max_steps=2", "sft.batch_size=2")
		l.forgetStage(t, "generate/vanilla/sft") // it is made by the model here
		for _, stage := range []string{"base", "sft/vm", "generate/vanilla/sft"} {
			result, err := l.run(stage)
			if err != nil {
				t.Fatalf("template %s: %s: %v", name, stage, err)
			}
			if stage == "sft/vm" {
				losses[name] = result.Metrics["loss"]
			}
		}
	}
	if losses["one"] == losses["other"] || losses["one"] == 0 {
		t.Errorf("the loss is %v under one template and %v under the other, want two numbers", losses["one"], losses["other"])
	}
}

// dropTemplate takes the chat template out of tokenizer_config.json.
func dropTemplate(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "tokenizer_config.json")
	keys := reference.JSON[map[string]any](t, path)
	delete(keys, "chat_template")
	data, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
