package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/chat"
	"github.com/esclab/esclab/results/human"
	"github.com/esclab/esclab/results/pairs"
)

// output runs a command line to its end and gives what it wrote, logs apart.
func output(t *testing.T, ctx context.Context, stdin string, args ...string) string {
	t.Helper()
	c, log := esclab(t, ctx, args...)
	var out strings.Builder
	c.Stdout, c.Stdin = &out, strings.NewReader(stdin)
	if err := c.Run(); err != nil {
		t.Fatalf("esclab %s: %v\n%s", strings.Join(args, " "), err, log)
	}
	return out.String()
}

// testReaders runs the commands that read a finished run, on one.
func testReaders(t *testing.T, ctx context.Context, data string) {
	t.Run("pairs", func(t *testing.T) { testPairs(t, ctx, data) })
	t.Run("human", func(t *testing.T) { testHuman(t, ctx, data) })
	t.Run("chat", func(t *testing.T) { testChat(t, ctx, data) })
	t.Run("compare", func(t *testing.T) { testCompare(t, ctx, data) })
	t.Run("bench dag", func(t *testing.T) { testBenchDAG(t, ctx, data) })
	t.Run("export", func(t *testing.T) { testExport(t, ctx, data) })
	t.Run("ui", func(t *testing.T) { testUI(t, ctx, data) })
	t.Run("verify and gc", func(t *testing.T) { testTidy(t, ctx, data) })
}

// testChat talks with two systems of a run through a pipe.
func testChat(t *testing.T, ctx context.Context, data string) {
	saved := filepath.Join(t.TempDir(), "talk.json")
	lines := "I lost my job.\n/regenerate\n/strategy Question\nIt hurts.\n/undo\nStill here.\n/save " + saved + "\n"
	for system, args := range map[string][]string{
		"decoupled/dpo": {"--engine", "go"},
		"vanilla/sft":   {"--system", "vanilla/sft", "--temperature", "1.5", "--max-new-tokens", "8"},
	} {
		os.Remove(saved)
		said := output(t, ctx, lines, append([]string{"chat", "micro", "--data", data}, args...)...)
		for _, want := range []string{chat.Note, "micro, " + system + ", on go", "planned ", "; forced Question\n[Question] ", "Taken back", "Saved 2 exchanges"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q is not in\n%s", system, want, said)
			}
		}
		if n := strings.Count(said, "planned "); n != 4 {
			t.Errorf("%s: %d replies, want 4\n%s", system, n, said)
		}
		raw, err := os.ReadFile(saved)
		if err != nil {
			t.Fatal(err)
		}
		var talk struct {
			Exchanges []struct {
				Seeker        string
				Probabilities map[esc.Strategy]float64
			}
		}
		if err := json.Unmarshal(raw, &talk); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"I lost my job.", "Still here."} {
			if e := talk.Exchanges[i]; e.Seeker != want || len(e.Probabilities) != esc.NumStrategies {
				t.Errorf("%s: exchange %d is %+v", system, i, e)
			}
		}
	}
	c, log := esclab(t, ctx, "chat", "micro", "--data", data, "--system", "vanilla/rlhf")
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), "it has vanilla/base") {
		t.Errorf("%v\n%s", err, log)
	}
}

// testHuman exports a sheet, has it filled by two raters and imports it.
func testHuman(t *testing.T, ctx context.Context, data string) {
	dir := filepath.Join(t.TempDir(), "human")
	export := []string{"human", "export", "micro", "--data", data, "--samples", "6", "--systems", "decoupled/sft,vanilla/sft", "--out", dir}
	output(t, ctx, "", export...)
	raw, err := os.ReadFile(filepath.Join(dir, "raters", "sheet.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "vanilla") || strings.Contains(string(raw), "decoupled") {
		t.Error("the sheet names a system")
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(raw), "\ufeff"))).ReadAll()
	if err != nil || len(rows) != 7 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	args := []string{"human", "import", filepath.Join(dir, "key.json")}
	for rater, answer := range map[string]string{"anna": "A", "ben": "tie"} {
		var filled strings.Builder
		w := csv.NewWriter(&filled)
		w.Comma = ';'
		for i, row := range rows {
			if i > 0 {
				row[4] = answer // fluency alone
			}
			_ = w.Write(row) // into memory
		}
		w.Flush()
		args = append(args, writeFile(t, rater+".csv", filled.String()))
	}
	var results human.Results
	if err := json.Unmarshal([]byte(output(t, ctx, "", append(args, "--json")...)), &results); err != nil {
		t.Fatal(err)
	}
	fluency := results.Questions[0]
	if results.Samples != 6 || fluency.Answers != 12 || fluency.Win.Estimate != 0.25 || fluency.Tie.Estimate != 0.5 || results.Questions[1].Answers != 0 {
		t.Errorf("A won by one of two raters, each system half of the time A: %+v", fluency)
	}
	if table := output(t, ctx, "", args...); !strings.Contains(table, "decoupled/sft against vanilla/sft: 6 samples, 2 raters") || !strings.Contains(table, "25.0 [") {
		t.Error(table)
	}
	// A key that may have sheets out with raters is not written over.
	c, log := esclab(t, ctx, export...)
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), "key.json is there already") {
		t.Errorf("%v\n%s", err, log)
	}
	c, log = esclab(t, ctx, "human", "export", "micro", "--data", data, "--systems", "vanilla/dpo,vanilla/rlhf", "--out", t.TempDir())
	if err := c.Run(); err == nil || !strings.Contains(log.String(), "it has vanilla/base, vanilla/direct-refine") {
		t.Errorf("%v\n%s", err, log)
	}
}

func testPairs(t *testing.T, ctx context.Context, data string) {
	var stats struct {
		pairs.Statistics
		Mined map[esc.Role]struct{ Pairs, Samples int }
	}
	if err := json.Unmarshal([]byte(output(t, ctx, "", "pairs", "micro", "--data", data, "--stats", "--json")), &stats); err != nil {
		t.Fatal(err)
	}
	if stats.Corpus.Dialogues != 10 || len(stats.Roles) != 3 {
		t.Fatalf("statistics of %d dialogues and %d roles, want 10 and 3", stats.Corpus.Dialogues, len(stats.Roles))
	}
	for _, r := range stats.Roles {
		if r.Pairs == 0 || r.Pairs != stats.Mined[r.Role].Pairs {
			t.Errorf("%s: %d pairs counted, %d mined", r.Role, r.Pairs, stats.Mined[r.Role].Pairs)
		}
	}
	shown := output(t, ctx, "", "pairs", "micro", "--data", data, "--role", "sp", "--limit", "1")
	for _, want := range []string{"sp · dialogue", "+ chosen    [", "- rejected  [", "reason    ", "where the gold strategy is", "1 of "} {
		if !strings.Contains(shown, want) {
			t.Errorf("the pair does not show %q:\n%s", want, shown)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	output(t, ctx, "", "pairs", "testdata/micro.yaml", "--data", data, "--export", dir)
	for _, r := range stats.Roles {
		lines, err := os.ReadFile(filepath.Join(dir, "micro_"+string(r.Role)+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(lines), "\n"); n != r.Pairs {
			t.Errorf("%s: %d lines exported, %d pairs", r.Role, n, r.Pairs)
		}
	}
}

func TestPairsFlags(t *testing.T) {
	for _, c := range []struct {
		f    pairsFlags
		says string // "" for flags that are right
	}{
		{pairsFlags{selection: "all"}, ""},
		{pairsFlags{selection: "psnr"}, ""},
		{pairsFlags{roles: []string{"SP"}, errors: []string{"Strategy_mismatch"}, strategies: []string{"rf", "question"}}, ""},
		{pairsFlags{roles: []string{"planner"}}, "vm, sp or rg"},
		{pairsFlags{errors: []string{"rudeness"}}, "unknown psychological error"},
		{pairsFlags{errors: []string{"emotion_misread"}}, "counted and makes no pair"},
		{pairsFlags{strategies: []string{"Qestion"}}, `nearest known strategy is "Question"`},
		{pairsFlags{selection: "pspr"}, "psnr, nspr or nsnr"},
		{pairsFlags{selection: "psnr", roles: []string{"sp"}}, "leave out --role sp"},
		{pairsFlags{limit: -1}, "negative"},
		{pairsFlags{formatSet: true}, "--export"},
		{pairsFlags{exportSet: true, export: "x", stats: true}, "leave out"},
	} {
		_, err := c.f.filter()
		if err == nil {
			err = c.f.check()
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.f, err, c.says)
		}
	}
	f, err := pairsFlags{selection: "nsnr"}.filter()
	if err != nil || len(f.Roles) != 1 || f.Roles[0] != esc.VM || f.Kinds[0] != esc.NsNr {
		t.Errorf("--selection nsnr: %+v, %v", f, err)
	}
}

// The commands that read a run find it by its name and say what is missing.
func TestReadersOfRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	data := t.TempDir()
	c, log := esclab(t, ctx, "pairs", "testdata/micro.yaml", "--data", data)
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitFailed || !strings.Contains(log.String(), "esclab run micro") {
		t.Errorf("nothing was run: %v\n%s", err, log)
	}
	c, log = esclab(t, ctx, "pairs", "micro", "--data", data)
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), `no run "micro"`) {
		t.Errorf("no such run: %v\n%s", err, log)
	}
	runMicro(t, ctx, data)
	testReaders(t, ctx, data)
}
