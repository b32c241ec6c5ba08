package main

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
)

// testCompare compares a finished run's systems, and the run with a variant
// that has not been run.
func testCompare(t *testing.T, ctx context.Context, data string) {
	var got compare.Table
	if err := json.Unmarshal([]byte(output(t, ctx, "", "compare", "micro", "--json", "--data", data)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 2 || got.Rows[0].System != "vanilla/dpo" || got.Rows[1].System != "decoupled/dpo" || len(got.Parameters) != 0 || len(got.Paired) != 1 {
		t.Fatalf("%+v", got)
	}
	vanilla, decoupled, paired := got.Rows[0].Scores, got.Rows[1].Scores, got.Paired[0]
	for _, c := range experiments.Table3() {
		a, b := vanilla[c.Name], decoupled[c.Name]
		if a.Low == nil || b.Low == nil || *a.Low > a.Value || *b.High < b.Value {
			t.Errorf("%s: no interval, or one without its value: %+v, %+v", c.Name, a, b)
		}
		if a.Best == b.Best && a.Value != b.Value {
			t.Errorf("%s: best of %v and %v: %v, %v", c.Name, a.Value, b.Value, a.Best, b.Best)
		}
		d, ok := paired.Differences[c.Name]
		if !ok || math.Abs(d.Value-(b.Value-a.Value)) > 1e-9 || d.Low > d.Value || d.High < d.Value || d.P <= 0 || d.P > 1 {
			t.Errorf("%s: paired difference %+v of %v and %v", c.Name, d, b.Value, a.Value)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(output(t, ctx, "", "compare", "micro", "--csv", "--system", "all", "--sort", "B", "--data", data))).ReadAll()
	if err != nil || len(rows) < 7 || rows[0][2] != "system" {
		t.Errorf("csv: %v, %v", err, rows)
	}
	if md := output(t, ctx, "", "compare", "micro", "--md", "--metrics", "B", "--data", data); !strings.Contains(md, "| run | system | B ↓ |\n|:--|:--|--:|\n| micro | vanilla/dpo |") {
		t.Errorf("markdown:\n%s", md)
	}

	raw, err := os.ReadFile("testdata/micro.yaml")
	if err != nil {
		t.Fatal(err)
	}
	variant := writeFile(t, "variant.yaml", strings.Replace(string(raw), "sp: {learning_rate: 1e-3, beta: 0.5}", "sp: {learning_rate: 1e-3, beta: 0.25}", 1))
	var d runsDiff
	if err := json.Unmarshal([]byte(output(t, ctx, "", "diff", "micro", variant, "--json", "--data", data)), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Parameters) != 1 || d.Parameters[0].Name != "dpo/sp.beta" || len(d.DAG.Parts) != 1 || d.DAG.Parts[0].Stage != "dpo/sp" || len(d.DAG.Shared) < 30 || len(d.DAG.OnlyA)+len(d.DAG.OnlyB) != 0 {
		t.Errorf("%+v", d.DAG)
	}
	for _, a := range d.Artifacts {
		if a.A == "" || a.B != "" {
			t.Errorf("artifact %+v, want one of the run alone", a)
		}
	}
	if said := output(t, ctx, "", "diff", "micro", "micro", "--data", data); !strings.Contains(said, "they compute the same") {
		t.Errorf("a run and itself:\n%s", said)
	}
}

// testExport writes a run as a folder and checks every file's digest.
func testExport(t *testing.T, ctx context.Context, data string) {
	dir := filepath.Join(t.TempDir(), "out")
	output(t, ctx, "", "export", "micro", "--out", dir, "--data", data)
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Experiment string
		Files      []exported
	}
	if err := json.Unmarshal(raw, &m); err != nil || m.Experiment != "micro" {
		t.Fatalf("%v, %+v", err, m)
	}
	there := map[string]bool{}
	for _, f := range m.Files {
		content, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != f.SHA256 || int64(len(content)) != f.Bytes {
			t.Errorf("%s is not what the manifest says", f.Path)
		}
		there[f.Path] = true
	}
	for _, want := range []string{
		"README.md", "base/model.safetensors", "base/tokenizer.json", "adapters/sft-vm/adapter_model.safetensors", "adapters/dpo-rg/adapter_config.json",
		"predictions/decoupled-dpo.jsonl", "pairs/sp.jsonl", "sft/rg.jsonl", "llamafactory/pairs_sp.jsonl", "llamafactory/sft_vm.jsonl", "llamafactory/dataset_info.json",
		"inference.py", "prompts.json", "tables/report.html", "tables/table3.csv",
		"tensorboard/base/events.out.tfevents.0.esclab", "tensorboard/dpo/rg/events.out.tfevents.0.esclab",
	} {
		if !there[want] {
			t.Errorf("%s is missing", want)
		}
	}
	// What esclab itself reads back.
	if said := output(t, ctx, "", "score", filepath.Join(dir, "predictions", "decoupled-dpo.jsonl"), "--json"); !strings.Contains(said, "rouge_l") {
		t.Errorf("score: %s", said)
	}
	c, log := esclab(t, ctx, "export", "micro", "--out", dir, "--data", data)
	if err := c.Run(); err == nil || !strings.Contains(log.String(), "holds other files") {
		t.Errorf("a second export into the same folder: %v\n%s", err, log)
	}
}

// An export stays in its folder, whatever names and links say.
func TestFolderHasBorders(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	d := folder{root: root}
	for _, name := range []string{"../x", "link/x", "/x", "a/../../x"} {
		if err := d.write(name, origin{}, strings.NewReader("x")); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
	if err := d.write("a/b", origin{}, strings.NewReader("x")); err != nil || d.write("a/b", origin{}, strings.NewReader("y")) == nil {
		t.Errorf("%v, or written twice", err)
	}
}

func TestCompareFlags(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"compare", "name the runs to compare"},
		{"compare demo --sweep s", "not both"},
		{"compare demo --metrics charm", "--metrics charm"},
		{"compare demo --md --csv", "md"},
		{"export demo", "--out is missing"},
		{"export demo --out " + t.TempDir() + "/x --base some", "--base some"},
		{"ui a b", "--compare"},
		{"ui a --query q", "one of them"},
	} {
		c, log := esclab(t, t.Context(), append(strings.Fields(test.args), "--data", t.TempDir())...)
		if err := c.Run(); err == nil || c.ProcessState.ExitCode() != exitUsage || !strings.Contains(log.String(), test.want) {
			t.Errorf("%s: %v\n%s", test.args, err, log)
		}
	}
}

// testUI reads the pages of a run, of a query and of a comparison with a
// browser.
func testUI(t *testing.T, ctx context.Context, data string) {
	b := startBrowser(t, ctx)
	up, upLog := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	for { // also on a machine that is so busy that commands would give up
		if _, err := waitForStack(ctx, data); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatalf("%v\n%s", err, upLog)
		}
	}
	const details = `document.querySelector("#user-metadata-current-details")?.contentDocument?.body?.innerText ?? ""`
	address := func(args ...string) string {
		return strings.TrimSpace(output(t, ctx, "", append(append([]string{"ui"}, args...), "--data", data)...))
	}
	// The list opens with columns of what was measured and with saved views, and what
	// a person changes stays.
	const columns = `"|" + Array.from(document.querySelectorAll("thead th")).map(e => e.innerText.trim()).filter(Boolean).join("|") + "|"`
	const rows = `Array.from(document.querySelectorAll("tbody tr")).map(r => Array.from(r.querySelectorAll("td")).map(c => c.innerText.trim()).join("|")).join("\n")`
	b.shows(t, ctx, address(), columns, "|Status|Workflow ID|Experiment|Paradigm|Method|PreferenceBias|WeightedF1|MacroF1|RougeL|Verdict|Start|")
	b.shows(t, ctx, address(), `(() => {
		const items = Array.from(document.querySelectorAll("[data-view-item]")).map(e => e.innerText.trim()).join("|");
		if (!items) document.querySelector('[data-testid="saved-views-button"]')?.click();
		return items;
	})()`, "Nights|Regressions|Runs|Sweeps|Vanilla beside decoupled")
	b.shows(t, ctx, address("--query", "Stage STARTS_WITH 'bias/' AND Paradigm IS NOT NULL"), rows,
		"micro|vanilla|dpo|", "micro|decoupled|dpo|")
	b.shows(t, ctx, address(), `localStorage["namespace-workflow-table-columns"] = '{"default":[{"label":"Start"},{"label":"Cell"}]}'`, "Cell")
	b.shows(t, ctx, address(), columns, "Workflows|Start|Cell|")
	b.shows(t, ctx, address(), `localStorage["namespace-workflow-table-columns"] = "{}"`, "{}")
	b.shows(t, ctx, address("micro"), details, "micro: ", "vanilla/dpo", "decoupled/dpo", "Qw", "report\t✓ done")
	b.shows(t, ctx, address("micro"), `document.body.innerText`, "run/micro/", "User Metadata")
	// Details need no worker, and lead to the run's stages, to its report's page with the
	// comparison, and to the report itself.
	const static = `document.querySelector("#user-metadata-details")?.contentDocument`
	b.shows(t, ctx, address("micro"), static+`?.body?.innerText ?? ""`, "Its stages: ", "The final comparison of its systems: ", "All runs of micro")
	href := func(part string) string {
		t.Helper()
		to, err := b.read(ctx, nil, address("micro"), static+`?.querySelector('a[href*="`+part+`"]')?.href ?? ""`, []string{part}, time.Now().Add(2*time.Minute))
		if !strings.Contains(to, part) {
			t.Fatalf("the run's details have no link to %s (%v)", part, err)
		}
		return to
	}
	b.shows(t, ctx, href("ParentWorkflowId"), `document.querySelector("main")?.innerText ?? ""`, "stage/report/", "stage/bias/decoupled/dpo/")
	onTab := func(tab, text string) string {
		return `(() => {
			const at = location.pathname.split("/"); // …/workflows/ID/RUN/TAB
			if (at.length > 6 && at[6] != "` + tab + `") location.pathname = at.slice(0, 6).concat("` + tab + `").join("/");
			return ` + text + `;
		})()`
	}
	b.shows(t, ctx, href("stage%2Freport"), onTab("user-metadata", static+`?.body?.innerText ?? ""`), "Of run/micro/", "vanilla/dpo", "decoupled/dpo", "Qw")
	b.shows(t, ctx, address("micro"), onTab("timeline", "document.body.innerText"), `{"comparison":["system D-1`, `"vanilla/dpo `, `"decoupled/dpo `)
	b.shows(t, ctx, href("report.html"), `document.body.innerText`, "micro", "vanilla/dpo", "decoupled/dpo")
	const query = "WorkflowType = 'Run' AND Paradigm = 'decoupled' AND PreferenceBias < 1000"
	b.shows(t, ctx, address("--query", query), `document.body.innerText`, "run/micro/", "PreferenceBias < 1000")
	b.shows(t, ctx, address("--query", strings.Replace(query, "<", ">", 1)), `document.body.innerText`, "No Workflows Found", "PreferenceBias > 1000")
	deadline := time.Now().Add(time.Minute)
	for page := ""; page == ""; page = address("--compare", "micro") { // until the stack's worker polls
		if time.Now().After(deadline) {
			t.Fatal("the comparison gets no page")
		}
	}
	b.shows(t, ctx, address("--compare", "micro"), static+`?.body?.innerText ?? ""`, "Paired differences", "micro: decoupled/dpo − vanilla/dpo")
}
