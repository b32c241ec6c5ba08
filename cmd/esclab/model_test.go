package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm/hub"
)

// TestModelGet downloads a model from a hub, lists it, and has an experiment find it.
func TestModelGet(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	contents := map[string]string{"config.json": "{}", "tokenizer.json": "[]", "model.safetensors": "weights"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/org/model/resolve/"+commit+"/"); ok {
			fmt.Fprint(w, contents[name])
			return
		}
		if r.URL.Path != "/api/models/org/model/revision/main" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var siblings []string
		for name, content := range contents {
			sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content))
			siblings = append(siblings, fmt.Sprintf(`{"rfilename": %q, "size": %d, "blobId": %q}`, name, len(content), hex.EncodeToString(sum[:])))
		}
		fmt.Fprintf(w, `{"sha": %q, "siblings": [%s]}`, commit, strings.Join(siblings, ","))
	}))
	defer server.Close()
	cache := t.TempDir()
	for name, value := range map[string]string{"HF_ENDPOINT": server.URL, "HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": "", "ESCLAB_MODELS": ""} {
		t.Setenv(name, value)
	}
	prepare := func() experiments.Prepared {
		p, err := experiments.Prepare("demo", []string{"backbone.tiny=null", "backbone.path=org/model"}, experiments.OS([]byte("[]")))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := prepare()
	if model, ok := missingModel(p); !ok || model.GetCommand() != "esclab model get org/model" || !strings.Contains(p.Missing.Error(), model.GetCommand()) {
		t.Errorf("missing is %v, which offers %+v (%v), want the command that gets the model", p.Missing, model, ok)
	}
	for i, want := range []string{"11 B of them downloaded now", "0 B of them downloaded now"} {
		var out bytes.Buffer
		if err := new(app).modelGet(t.Context(), hub.Repo{Name: "org/model"}, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "org/model@"+commit+": 3 files") || !strings.Contains(out.String(), want) {
			t.Errorf("download %d says %q, want the commit, three files and %q", i+1, out.String(), want)
		}
	}
	if p := prepare(); p.Missing != nil {
		t.Errorf("missing is %v, want the model found", p.Missing)
	}
	var out bytes.Buffer
	if err := modelList(func(name string) string { return map[string]string{"HF_HUB_CACHE": cache}[name] }, &out); err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(out.String()); len(fields) != 4 || fields[0] != "org/model" || fields[3] != filepath.Join(cache, "models--org--model", "snapshots", commit) {
		t.Errorf("the list is %q, want the model with its size and its directory", out.String())
	}
	if err := new(app).modelGet(t.Context(), hub.Repo{Name: "org/none"}, &out); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "there is no such model") {
		t.Errorf("a missing model gives %v, want a failure that says so", err)
	}
}

// TestAffirmed: only a yes is one.
func TestAffirmed(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, " Yes \n": true, "\n": false, "n\n": false, "": false, "yesterday\n": false} {
		var out bytes.Buffer
		if got := affirmed(strings.NewReader(answer), &out, "Well?"); got != want || out.String() != "Well? [y/N] " {
			t.Errorf("%q to %q counts as %v, want %v", answer, out.String(), got, want)
		}
	}
}
