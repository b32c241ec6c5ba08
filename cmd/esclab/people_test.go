package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
	t.Run("forgotten by Temporal", func(t *testing.T) { testForgotten(t, ctx, data) }) // last: it removes its database
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
		f    pairsOptions
		says string // "" for flags that are right
	}{
		{pairsOptions{selection: "all"}, ""},
		{pairsOptions{selection: "psnr"}, ""},
		{pairsOptions{roles: []string{"SP"}, errors: []string{"Strategy_mismatch"}, strategies: []string{"rf", "question"}}, ""},
		{pairsOptions{roles: []string{"planner"}}, "vm, sp or rg"},
		{pairsOptions{errors: []string{"rudeness"}}, "unknown psychological error"},
		{pairsOptions{errors: []string{"emotion_misread"}}, "counted and makes no pair"},
		{pairsOptions{strategies: []string{"Qestion"}}, `nearest known strategy is "Question"`},
		{pairsOptions{selection: "pspr"}, "psnr, nspr or nsnr"},
		{pairsOptions{selection: "psnr", roles: []string{"sp"}}, "leave out --role sp"},
		{pairsOptions{limit: -1}, "negative"},
		{pairsOptions{formatSet: true}, "--export"},
		{pairsOptions{exportSet: true, export: "x", stats: true}, "leave out"},
	} {
		_, err := c.f.filter()
		if err == nil {
			err = c.f.check()
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.f, err, c.says)
		}
	}
	f, err := pairsOptions{selection: "nsnr"}.filter()
	if err != nil || len(f.Roles) != 1 || f.Roles[0] != esc.VM || f.Kinds[0] != esc.NsNr {
		t.Errorf("--selection nsnr: %+v, %v", f, err)
	}
}

// The commands that read a run find it by its name and say what is missing.
func TestReadersOfRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole DAG")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	data := t.TempDir()
	refused := func(code int, says string, args ...string) {
		t.Helper()
		c, log := esclab(t, ctx, append(args, "--data", data)...)
		if err := c.Run(); err == nil || c.ProcessState.ExitCode() != code || !strings.Contains(log.String(), says) {
			t.Errorf("esclab %s: %v, want exit code %d and %q\n%s", strings.Join(args, " "), err, code, says, log)
		}
	}
	refused(exitUsage, "there is no run yet: start one with esclab run", "pairs", "testdata/micro.yaml")
	runMicro(t, ctx, data)
	refused(exitUsage, `no run "macro"`, "pairs", "macro")
	refused(exitFailed, "run testdata/micro.yaml --set seed=99", "pairs", "testdata/micro.yaml", "--set", "seed=99")
	testReaders(t, ctx, data)
}

// Readers take how a run's name begins, work where nothing is up, and read the
// newest run of an experiment, whatever was set for it.
func TestRunsByName(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG twice")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	data := t.TempDir()
	say := func(code int, args ...string) string {
		t.Helper()
		c, log := esclab(t, ctx, append(args, "--data", data)...)
		_ = c.Run() // the exit code is looked at
		if got := c.ProcessState.ExitCode(); got != code {
			t.Errorf("esclab %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, log)
		}
		return log.String()
	}
	small := []string{"run", "testdata/micro.yaml", "--set", "methods=base", "--set", "backbone.tiny.pretrain.epochs=2"}
	say(exitOK, small...)
	if got := say(exitOK, "status", "mic"); !strings.Contains(got, "is done") || !strings.Contains(got, "generate/decoupled/base") || !strings.Contains(got, "  loss ") {
		t.Errorf("status mic: want every stage, the loss of base and that the run is done\n%s", got)
	}
	reports, err := filepath.Glob(filepath.Join(data, "reports", "micro", "*", "report.html"))
	if err != nil || len(reports) != 1 {
		t.Errorf("reports %v, %v; want one below the data directory", reports, err)
	}
	say(exitOK, append(small, "--set", "paradigms=vanilla")...)
	if got := say(exitOK, "report", "micro/"); strings.Contains(got, "decoupled/base") || !strings.Contains(got, "vanilla/base") {
		t.Errorf("report micro/: want the newest run, which has no decoupled system\n%s", got)
	}
	if got := say(exitOK, "status", "--sort", "B"); strings.Count(got, "\nmicro/") != 2 || !strings.Contains(got, "paradigms") && !strings.Contains(got, "    ") || !strings.Contains(got, " done ") {
		t.Errorf("status: want both runs, and what differs\n%s", got)
	}
	if got := say(exitOK, "check", "testdata/micro.yaml", "--set", "backbone.tiny.pretrain.epochs=2"); !strings.Contains(got, "sp: tokens of a turn: median") || !strings.Contains(got, "»[") || !strings.Contains(got, "nothing is wrong") {
		t.Errorf("check: want each role's lengths, and a prompt with the loss marked\n%s", got)
	}
	if got := say(exitOK, "check", "testdata/micro.yaml", "--set", "backbone.tiny.pretrain.epochs=9"); !strings.Contains(got, "\ntime: about ") || !strings.Contains(got, " stages take less than a second each\n") {
		t.Errorf("check: want the time of what is to be computed, stage by stage\n%s", got)
	}
	plan := say(exitOK, "run", "testdata/micro.yaml", "--plan", "--set", "methods=base", "--set", "backbone.tiny.pretrain.epochs=7")
	if !strings.Contains(plan, " -> 7 since micro/") || !strings.Contains(plan, "new inputs: base") || !strings.Contains(plan, "time: about ") || !strings.Contains(plan, "check: nothing is wrong") {
		t.Errorf("--plan: want why base is not reused, the time and the verdict\n%s", plan)
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{
		{"report", "none", "--out", out}, {"export", "none", "--out", out}, {"compare", "none"}, {"status", "none"},
	} {
		if got := say(exitUsage, args...); !strings.Contains(got, `esclab: there is no run "none": esclab status lists them`) {
			t.Errorf("%s: want that there is no such run\n%s", args[0], got)
		}
	}
	hint := "esclab run testdata/micro.yaml --set sft.epochs=7 --set seed=7"
	if got := say(exitFailed, "pairs", "testdata/micro.yaml", "--set", "sft.epochs=7", "--set", "seed=7"); !strings.Contains(got, hint) {
		t.Errorf("pairs of what was not run: want %q\n%s", hint, got)
	}
	if _, err := os.Stat(out); err == nil {
		t.Errorf("%s was made for a run that is not there", out)
	}
}

// Where nothing has been run, readers say so and leave nothing behind.
func TestReadersLeaveNothing(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{{"status"}, {"report", "demo"}, {"compare", "demo"}, {"gc"}, {"verify", "demo"}, {"run", "demo", "--plan"}} {
		c, log := esclab(t, t.Context(), append(args, "--data", data)...)
		err := c.Run()
		if plan := args[0] == "run"; plan != (err == nil) || !plan && !strings.Contains(log.String(), "there is no run yet: start one with esclab run") {
			t.Errorf("%s: %v\n%s", args[0], err, log)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("esclab %s made the data directory", strings.Join(args, " "))
		}
	}
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(filepath.Join(data, "digests.json"), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err) // as planning with a large model leaves it
	}
	c, log := esclab(t, t.Context(), "status", "--data", data)
	err := c.Run()
	if left, _ := os.ReadDir(data); err == nil || !strings.Contains(log.String(), "there is no run yet") || len(left) != 1 {
		t.Errorf("status beside digests of files alone: %v, %d entries in the data directory, want no run and one\n%s", err, len(left), log)
	}
}

// A command beside a process that somebody has stopped says so and waits for nothing;
// when that goes on, so does the next command.
func TestStoppedStack(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	data := t.TempDir()
	info, _, down := stackUp(t, ctx, data)
	defer down()
	if err := syscall.Kill(info.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "testdata/micro.yaml"}, {"status"}, {"worker"}} {
		c, log := esclab(t, ctx, append(args, "--data", data)...)
		_ = c.Run() // the exit code is looked at
		if want := fmt.Sprintf("is stopped: continue it (fg in its terminal, or kill -CONT %d)", info.PID); c.ProcessState.ExitCode() != exitUnreachable || !strings.Contains(log.String(), want) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s", args[0], c.ProcessState.ExitCode(), exitUnreachable, want, log)
		}
	}
	if err := syscall.Kill(info.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	output(t, ctx, "", "sweep", "list", "--data", data)
}

// Hints can be typed as they are printed: by the program's name and where everything is.
func TestCommandLine(t *testing.T) {
	for want, given := range map[string][]string{
		"esclab run demo": {"demo"},
		"esclab run 'my file.yaml' --set 'name=it'\\''s'": {"my file.yaml", "name=it's"},
		"esclab run demo --set 'methods=[sft]'":           {"demo", "methods=[sft]"},
	} {
		if got := new(app).commandLine("esclab run", given[0], given[1:]); got != want {
			t.Errorf("%q: got %s, want %s", given, got, want)
		}
	}
	a := &app{program: "bin/esclab", dataDir: "my data", configPath: "t.yaml"}
	if got, want := a.commandLine("esclab ui --open", "demo/0", nil), "bin/esclab ui --open demo/0 --data 'my data' --config t.yaml"; got != want {
		t.Errorf("called as %s, with flags: got %s, want %s", a.program, got, want)
	}
}
