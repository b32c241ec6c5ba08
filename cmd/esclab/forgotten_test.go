package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// What somebody else has started is not cancelled without a yes, and nobody sits at a
// terminal here.
func TestCancelOfAnothers(t *testing.T) {
	store := storetest.OpenStore(t, t.TempDir())
	for host, want := range map[string]string{"box": "", "other": `run demo/1 was started by anna@other (esclab run demo): cancel it with --yes`} {
		input, err := json.Marshal(workflows.RunInput{Origin: workflows.Origin{User: "anna", Host: host, Command: "esclab run demo"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := lab.KeepRun(t.Context(), store, workflows.KeptRun{Version: workflows.KeptVersion, ID: "run/demo/1", RunID: "1", Input: input}); err != nil {
			t.Fatal(err)
		}
		se := &session{lab: &lab.Client{Store: store, Origin: workflows.Origin{User: "anna", Host: "box", Command: "esclab cancel demo"}}}
		e := lab.Execution{ID: "run/demo/1", Kept: true}
		switch err := se.mayCancel(t.Context(), "run", e, false); {
		case want == "" && err != nil:
			t.Errorf("one's own: %v", err)
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("another's: %v, want %s", err, want)
		}
		if err := se.mayCancel(t.Context(), "run", e, true); err != nil {
			t.Errorf("with --yes: %v", err)
		}
	}
}

// testForgotten removes Temporal's database after a run and a sweep have ended: what
// reads them says the same as before.
func testForgotten(t *testing.T, ctx context.Context, data string) {
	micro, err := filepath.Abs("testdata/micro.yaml")
	if err != nil {
		t.Fatal(err)
	}
	few := writeFile(t, "few.yaml", fmt.Sprintf("name: few\nbase: %q\nset: {paradigms: [vanilla], methods: [base]}\ngrid: {generation.max_turns: [3, 4]}\n", micro))
	output(t, ctx, "", "sweep", few, "--data", data)

	commands := []string{
		"status micro", "status micro --json", "compare micro --md", "compare --sweep few --csv", "diff micro few.max-turns-3 --json",
		"sweep list", "sweep status few", "sweep status few --json", "sweep table few", "sweep table few --csv",
		"pairs micro --limit 2", "chat micro --system vanilla/sft --engine go", "verify micro",
	}
	read := func() (said []string, listed string) {
		t.Helper()
		_, _, down := stackUp(t, ctx, data) // one for all commands
		defer down()
		for _, line := range commands {
			said = append(said, output(t, ctx, "I lost my job.\n", append(strings.Fields(line), "--data", data)...))
		}
		return said, output(t, ctx, "", "status", "--data", data)
	}
	before, listed := read()
	database, err := filepath.Glob(filepath.Join(data, "temporal.db*"))
	if err != nil || len(database) == 0 {
		t.Fatalf("Temporal has no database in %s (%v)", data, err)
	}
	for _, file := range database {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	after, listedAfter := read()
	for i := range commands {
		if after[i] != before[i] {
			t.Errorf("esclab %s says without Temporal's database\n%swith it\n%s", commands[i], after[i], before[i])
		}
	}
	// Runs of the same second may change places.
	runs := func(table string) []string {
		lines := strings.Split(table, "\n")
		slices.Sort(lines)
		return lines
	}
	if strings.Count(listed, "/") < 3 || !slices.Equal(runs(listedAfter), runs(listed)) {
		t.Errorf("without Temporal's database the runs are\n%swith it\n%s", listedAfter, listed)
	}
	dir := filepath.Join(t.TempDir(), "report")
	output(t, ctx, "", "report", "micro", "--out", dir, "--data", data)
	if _, err := os.Stat(filepath.Join(dir, "report.html")); err != nil {
		t.Error(err)
	}
	output(t, ctx, "", "export", "micro", "--out", filepath.Join(t.TempDir(), "export"), "--base", "never", "--data", data)
}
