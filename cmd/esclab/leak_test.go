package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/workers/settings"
)

// What the leak test plants: keys, and a sentence in every dialogue.
const (
	canaryJudgeKey = "sk-canary-4f1f0e7c"
	canaryOtherKey = "canary-secret-91b2aa"
	canarySentence = "My quokka ledger from Zanzibar is lost."
)

// Secrets turn up nowhere, and dialogues nowhere but in the store's blobs, the
// verified copies of them, and the report that shows some: not in Temporal's
// database, not in the logs, not in what the program prints. One run is judged
// by an endpoint that wants a key, to its report; another fails.
func TestNothingLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute)
	defer stop()
	judge := chattest.New(t)
	corpus := plantedCorpus(t)
	data, out := t.TempDir(), filepath.Join(t.TempDir(), "report")
	t.Setenv("CANARY_KEY", canaryJudgeKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", canaryOtherKey) // there, and not to be used
	config := writeFile(t, "temporal.yaml", fmt.Sprintf("judge: {endpoints: [{base_url: %q, api_key_env: CANARY_KEY}]}\n", judge.URL))
	args := []string{"run", "testdata/micro.yaml", "--data", data, "--config", config, "--set", "corpus.source=" + corpus, "--set", "paradigms=vanilla",
		"--set", "backbone.tiny.pretrain.epochs=2", "--set", "sft.epochs=1", "--set", "judge.kind=openai", "--set", "judge.model=canary-judge",
		"--set", "judge.base_url=" + judge.URL, "--set", "judge.api_key_env=CANARY_KEY", "--set", "methods=base,sft"}
	run, said := esclab(t, ctx, append(args, "--report", out)...)
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if n := len(judge.Requests()); n == 0 || judge.Requests()[0].Authorization != "Bearer "+canaryJudgeKey {
		t.Fatalf("the judge was asked %d times, or without the key: the test proves nothing", n)
	}
	failing, saidFailing := esclab(t, ctx, append(args, "--set", "limits.max_tokens=40", "--set", "mining.max_new_tokens=4", "--set", "generation.max_new_tokens=4")...)
	if _ = failing.Run(); failing.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("the failing run ended with %d\n%s", failing.ProcessState.ExitCode(), saidFailing)
	}
	store, err := settings.ReadCredentials(filepath.Join(data, "s3-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{canaryJudgeKey, canaryOtherKey, string(store.SecretKey)}

	// find looks for words in a text, in UTF-8 and in UTF-16 as databases may hold it.
	find := func(where string, text []byte, words ...string) (found []string) {
		for _, w := range words {
			if bytes.Contains(text, []byte(w)) {
				found = append(found, w)
			}
		}
		return found
	}
	for name, log := range map[string]*bytes.Buffer{"the run's output": said, "the failing run's output": saidFailing} {
		if found := find(name, log.Bytes(), append(secrets, canarySentence, "quokka")...); len(found) > 0 {
			t.Errorf("%s holds %q", name, found)
		}
	}
	seen := map[string]int{}
	walk := func(root string, look func(name string, content []byte)) {
		t.Helper()
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(root, path)
			look(filepath.ToSlash(name), content)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(data, func(name string, content []byte) {
		if name != "s3-credentials" {
			if found := find(name, content, secrets...); len(found) > 0 {
				t.Errorf("%s holds the secret %q", name, found)
			}
		}
		dialogue := len(find(name, content, canarySentence, "quokka ledger")) > 0
		kept := strings.HasPrefix(name, "s3/esclab/blobs/") || strings.HasPrefix(name, "cache/")
		if strings.HasPrefix(name, "reports/") { // with sample dialogues, for its owner alone
			if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s may be read by others: %v, %v", name, info.Mode(), err)
			}
			return
		}
		switch {
		case dialogue && kept:
			seen["blobs"]++
		case dialogue:
			t.Errorf("%s holds a dialogue", name)
		}
		if strings.HasPrefix(name, "temporal.db") && len(find(name, content, "canary-judge")) > 0 {
			seen["database"]++ // what should stand there can be found
		}
	})
	walk(out, func(name string, content []byte) {
		seen["report"]++
		if found := find(name, content, secrets...); len(found) > 0 {
			t.Errorf("the report's %s holds the secret %q", name, found)
		}
	})
	if seen["blobs"] == 0 || seen["database"] == 0 || seen["report"] == 0 {
		t.Errorf("looked in the wrong places: %v", seen)
	}
}

// plantedCorpus is the sample corpus with a sentence of its own in every dialogue.
func plantedCorpus(t *testing.T) string {
	t.Helper()
	dialogues, err := esc.ReadDialogues("demo", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	for i := range dialogues {
		for j := range dialogues[i].Utterances {
			if u := &dialogues[i].Utterances[j]; u.Speaker == esc.Seeker {
				u.Text += " " + canarySentence
			}
		}
	}
	path := filepath.Join(t.TempDir(), "corpus.json")
	var b bytes.Buffer
	if err := esc.WriteDialogues(&b, dialogues); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
