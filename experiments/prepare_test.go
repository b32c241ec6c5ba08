package experiments

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrepare(t *testing.T) {
	host := OS([]byte("[]"))
	p, err := Prepare("demo", []string{"name=mine", "seeds=[2,3]"}, host)
	if err != nil || p.Missing != nil {
		t.Fatalf("demo with a name and seeds: %v, missing %v", err, p.Missing)
	}
	if p.Experiment.Name != "mine" || len(p.Experiment.Seeds) != 2 {
		t.Errorf("the overrides are not in the experiment: %q, seeds %v", p.Experiment.Name, p.Experiment.Seeds)
	}
	if last := p.Stages[len(p.Stages)-1]; last.Kind != KindReport || p.Result() != last.Fingerprint || p.Result() == "" {
		t.Errorf("the result %q is not the fingerprint of the report, %+v", p.Result(), last)
	}

	p, err = Prepare("demo", []string{"corpus.source=data/none.json"}, host)
	var missing *MissingSourceError
	if err != nil || !errors.As(p.Missing, &missing) || missing.Key != "corpus.source" {
		t.Errorf("a corpus that is not there: error %v, missing %v; want a plan and what is missing", err, p.Missing)
	}
	if s := p.Stages[0].Source; !filepath.IsAbs(s) || !strings.HasSuffix(s, filepath.FromSlash("data/none.json")) {
		t.Errorf("the corpus is looked for at %q, want an absolute path", s)
	}
	if p.Result() != "" {
		t.Errorf("the result without a corpus is %q, want none", p.Result())
	}

	if _, err = Prepare("demo", []string{"dpo.epochs=0"}, host); err == nil {
		t.Error("an experiment that is not valid is planned")
	}
}

// What the caller says of the judge's prompts is an error of the experiment, in
// a run as in a sweep.
func TestPrepareChecksPrompts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "scores.txt"), []byte("score it"), 0o600); err != nil {
		t.Fatal(err)
	}
	prompts := []string{"judge.kind=openai", "judge.model=m", "judge.base_url=http://127.0.0.1:1/v1", "judge.prompts=" + dir}
	host := OS([]byte("[]"))
	host.CheckPrompts = func(protocol Protocol, texts map[string]string) error {
		if protocol != ProtocolJoint {
			t.Errorf("the prompts are checked for protocol %s, want joint", protocol)
		}
		if texts["scores.txt"] != "score it" {
			t.Errorf("the prompts to check are %q", texts)
		}
		return errors.New("no placeholder")
	}
	_, run := Prepare("demo", prompts, host)
	_, sweep := PrepareSweep("demo-sweep", prompts, host)
	for of, err := range map[string]error{"run": run, "sweep": sweep} {
		if err == nil || !strings.Contains(err.Error(), "judge.prompts: "+dir+": no placeholder") {
			t.Errorf("%s: %v, want what is wrong with the prompts", of, err)
		}
	}
}

func TestPrepareSweep(t *testing.T) {
	p, err := PrepareSweep("demo-sweep", nil, OS([]byte("[]")))
	if err != nil || p.Missing != nil || len(p.Plan.Cells) == 0 {
		t.Fatalf("demo-sweep: %d cells, error %v, missing %v", len(p.Plan.Cells), err, p.Missing)
	}
	p, err = PrepareSweep("demo-sweep", []string{"corpus.source=none.json"}, OS([]byte("[]")))
	if err != nil || p.Missing == nil || len(p.Plan.Cells) == 0 {
		t.Errorf("a corpus that is not there: %d cells, error %v, missing %v; want a plan and what is missing", len(p.Plan.Cells), err, p.Missing)
	}
	if p, err = PrepareSweep("demo-sweep", []string{"dpo.epochs=0"}, OS([]byte("[]"))); err == nil {
		t.Errorf("a sweep whose base is not valid is planned: %d cells", len(p.Plan.Cells))
	}
}

// TestOwnSampling: where a checkpoint's generation_config.json wants another repetition penalty or top-k than the
// experiment has, preparing the experiment says so.
func TestOwnSampling(t *testing.T) {
	const path = "models/Qwen/Qwen2.5-7B-Instruct/"
	for _, c := range []struct {
		name, file string
		set        []string
		want       string // in the only warning; "" for none
	}{
		{"both", `{"repetition_penalty": 1.05, "top_k": 20, "top_p": 0.8}`, nil,
			"generation_config.json has repetition_penalty 1.05 (here 1), top_k 20 (here 0): generation.repetition_penalty and generation.top_k set them"},
		{"one of them", `{"repetition_penalty": 1.05, "top_k": 20}`, []string{"generation.top_k=20"}, "has repetition_penalty 1.05 (here 1): "},
		{"taken over", `{"repetition_penalty": 1.05, "top_k": 20}`, []string{"generation.top_k=20", "generation.repetition_penalty=1.05"}, ""},
		{"greedy", `{"top_k": 20}`, []string{"generation.greedy=true"}, ""},
		{"neutral", `{"repetition_penalty": 1.0, "temperature": 0.7}`, nil, ""},
		{"no JSON", `{`, nil, "generation_config.json: unexpected end of JSON input"},
	} {
		host := paperHost()
		files := map[string]string{path + "generation_config.json": c.file}
		for _, name := range []string{"config.json", "tokenizer.json", "model-00001-of-00001.safetensors"} {
			files[path+name] = name
		}
		for _, split := range []string{"train", "valid", "test"} {
			files["data/esconv/"+split+".json"] = split
		}
		with := fakeHost(files, nil)
		host.Open, host.Stat, host.ReadDir = with.Open, with.Stat, with.ReadDir
		p, err := Prepare("qwen2.5-7b", c.set, host)
		if err != nil || p.Missing != nil {
			t.Fatalf("%s: %v, missing %v", c.name, err, p.Missing)
		}
		switch {
		case c.want == "" && len(p.Warnings) > 0:
			t.Errorf("%s: warnings %q, want none", c.name, p.Warnings)
		case c.want != "" && (len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], c.want)):
			t.Errorf("%s: warnings %q, want one with %q", c.name, p.Warnings, c.want)
		}
	}
}
