package activities

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/results/nightly"
	"github.com/esclab/esclab/workflows"
)

// notifier is a worker with a store that has one night, and the night.
func notifier(t *testing.T) (*Activities, workflows.NotifyInput, string) {
	t.Helper()
	dir := t.TempDir()
	store := storetest.OpenStore(t, dir)
	r := nightly.Record{Schedule: "nightly", Night: "20261125T220000Z", Experiment: "demo", Revision: "v1"}
	r.Verdict, r.Findings = nightly.Regression, []nightly.Finding{{What: nightly.Speed, Where: "sft/sp", Metric: "seconds", Value: 9, Usual: 5, Worse: true}}
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutScheduleFile(t.Context(), r.Schedule, nightsDir+r.Night+".json", data); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "nightly")
	a := &Activities{Store: store, Log: zerolog.Nop(), Nightly: Nightly{Directories: []string{out}, Secret: func() string { return canary }}}
	in := workflows.NotifyInput{Result: workflows.NightResult{Verdict: "regression", Headline: r.Headline(), Night: r.Night}}
	in.Night.Schedule = "nightly"
	return a, in, out
}

func notify(a *Activities, in workflows.NotifyInput) (string, error) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a.NotifyNight)
	var told string
	value, err := env.ExecuteActivity(a.NotifyNight, in)
	if err == nil {
		err = value.Get(&told)
	}
	return told, err
}

// hook is a webhook that remembers the last call and answers as it is told.
type hook struct {
	*httptest.Server
	calls  int
	header http.Header
	body   []byte
	status int
}

func newHook(t *testing.T) *hook {
	h := &hook{status: http.StatusNoContent}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.calls++
		h.header = r.Header
		h.body, _ = io.ReadAll(r.Body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(h.status)
	}))
	t.Cleanup(h.Close)
	return h
}

func TestWebhook(t *testing.T) {
	a, in, _ := notifier(t)
	h := newHook(t)
	in.Night.Notify.Webhook = h.URL + "/hooks/T0KEN"
	for _, listed := range [][]string{nil, {h.URL + "/hook"}} {
		a.Nightly.Webhooks = listed
		if _, err := notify(a, in); errorType(err) != workflows.ErrTypeBadInput || h.calls != 0 || strings.Contains(err.Error(), "T0KEN") {
			t.Fatalf("an address that is not among %q: %d calls, %v; want none and an error of type BadInput without the address", listed, h.calls, err)
		}
	}
	a.Nightly.Webhooks = []string{"https://other.example.org", h.URL + "/hooks"}
	told, err := notify(a, in)
	if err != nil || told != h.URL || h.header.Get("Authorization") != "Bearer "+canary {
		t.Fatalf("a listed address: told %q, %v; want %s with the secret", told, err, h.URL)
	}
	var got notice
	if err := json.Unmarshal(h.body, &got); err != nil {
		t.Fatal(err)
	}
	if got.Verdict != "regression" || len(got.Findings) != 1 || got.Findings[0].Where != "sft/sp" || h.header.Get("Idempotency-Key") != "nightly/20261125T220000Z" {
		t.Errorf("%+v, header %v", got, h.header)
	}

	for status, permanent := range map[int]bool{404: true, 401: true, 302: true, 503: false, 429: false} {
		calls := h.calls
		h.status = status
		_, err := notify(a, in)
		if err == nil || (errorType(err) == workflows.ErrTypeBadInput) != permanent || h.calls != calls+1 {
			t.Errorf("status %d: %d calls, %v", status, h.calls-calls, err)
		}
		if err != nil && strings.Contains(err.Error(), "T0KEN") {
			t.Errorf("status %d: the error tells the address: %v", status, err)
		}
	}
	h.Close()
	if _, err := notify(a, in); err == nil || errorType(err) != "" || strings.Contains(err.Error(), "T0KEN") {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		prefix, address string
		want            bool
	}{
		{"https://a.org", "https://a.org/x/y", true},
		{"https://a.org/", "https://a.org", true},
		{"https://a.org/x", "https://a.org/x", true},
		{"https://a.org/x", "https://a.org/xy", false},
		{"https://a.org/x", "https://a.org/x/../y", false},
		{"https://a.org", "https://a.org.evil.net/", false},
		{"https://a.org", "https://a.org@evil.net/", false},
		{"https://a.org", "http://a.org/", false},
		{"https://a.org", "https://a.org:444/", false},
	} {
		if got := covers(c.prefix, c.address); got != c.want {
			t.Errorf("%s covers %s: %v", c.prefix, c.address, got)
		}
	}
}

func TestNoticeFile(t *testing.T) {
	a, in, out := notifier(t)
	in.Night.Notify.File = "verdict.json"
	for range 2 { // the second replaces the first
		told, err := notify(a, in)
		if err != nil || told != "verdict.json" {
			t.Fatalf("told %q, %v", told, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(out, "verdict.json"))
	var got notice
	if err = errors.Join(err, json.Unmarshal(data, &got)); err != nil || got.Verdict != "regression" {
		t.Errorf("the file holds %+v (%v), want the verdict regression", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".verdict*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, name := range []string{"../x.json", "/etc/x.json", ".", filepath.Dir(out)} {
		in.Night.Notify.File = name
		if _, err := notify(a, in); errorType(err) != workflows.ErrTypeBadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
}
