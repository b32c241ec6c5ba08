package main

import (
	"os"
	"strings"
	"testing"
)

// An experiment cannot send dialogues or keys where the settings do not: without
// a terminal it ends before anything starts, and says what to add.
func TestJudgeIsAllowed(t *testing.T) {
	listed := writeFile(t, "temporal.yaml", "judge: {endpoints: [{base_url: https://listed.example/v1}]}\n")
	for _, c := range []struct{ config, url, variable, wrong string }{
		{listed, "https://judge.example/v1", "HOME", `{base_url: "https://judge.example/v1", api_key_env: HOME}`},
		{listed, "https://judge.example/v1", "", "if you trust it with dialogues, add to judge.endpoints there"},
		{listed, "http://127.0.0.1:1/v1", "HOME", "the key in $HOME"},
		{listed, "http://127.0.0.1:1/v1", "", ""},
		{listed, "https://listed.example/v1", "HOME", ""},
	} {
		sets := []string{"judge.kind=openai", "judge.model=m", "judge.base_url=" + c.url, "judge.api_key_env=" + c.variable}
		a := &app{configPath: c.config, dataDir: t.TempDir()}
		p, err := a.prepare(t.Context(), "testdata/micro.yaml", sets)
		if err != nil {
			t.Fatal(err)
		}
		err = a.allowJudges(p.Experiment)
		if (err == nil) != (c.wrong == "") || err != nil && (!strings.Contains(err.Error(), c.wrong) || exitCode(err) != exitUsage) {
			t.Errorf("%s with %q: %v; want exit 2 and %q", c.url, c.variable, err, c.wrong)
		}
	}
	if data, err := os.ReadFile(listed); err != nil || strings.Contains(string(data), "judge.example") {
		t.Errorf("nobody said yes, and the settings hold %s (%v)", data, err)
	}
}
