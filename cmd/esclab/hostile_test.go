package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"

	"github.com/esclab/esclab/esc"
)

// pageState tells, once a page has stood for a while, how often a planted script
// ran in it or in a frame of it, its title, how many files it asked for, and how
// many links of it are scripts.
const pageState = `(() => {
	if (document.readyState != "complete" || performance.now() < 1500) return "";
	const pages = [window, ...Array.from(window.frames)].filter(w => { try { return w.document } catch { return false } });
	const count = f => pages.map(f).reduce((a, b) => a + b, 0);
	return ["settled", "planted " + count(w => w.planted || 0), "titled " + document.title,
		"files " + performance.getEntriesByType("resource").length,
		"script links " + count(w => w.document.querySelectorAll('a[href^="javascript:" i]').length),
		...pages.map(w => w.document.body?.innerText ?? "")].join("\n");
})()`

// A corpus, a path and a name that want to be markup are text in a report and in
// Temporal's web UI: no script of theirs runs, and nothing is asked for.
func TestHostileCorpusInABrowser(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	b := startBrowser(t, ctx)
	var asked atomic.Int64
	beacon := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer beacon.Close()
	raw, err := os.ReadFile(filepath.Join("..", "..", "report", "testdata", "hostile.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.ReplaceAll(raw, []byte("http://beacon.invalid"), []byte(beacon.URL))
	page := func(name string, content []byte) string {
		return (&url.URL{Scheme: "file", Path: writeFile(t, name, string(content))}).String()
	}

	// The texts as they are do run and ask: otherwise the test proves nothing.
	dialogues, err := esc.ReadDialogues("hostile", bytes.NewReader(raw), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	control := "<!DOCTYPE html><title>control</title>"
	for _, u := range dialogues[0].Utterances[:4] {
		control += "<div>" + u.Text + "</div>\n"
	}
	b.shows(t, ctx, page("control.html", []byte(control)), pageState, "settled", "titled planted", "script links 1")
	if asked.Load() == 0 {
		t.Error("the texts as they are ask for nothing: the test proves nothing")
	}
	asked.Store(0)

	const markup = `<img src=x onerror="window.planted=1"><b>[x](javascript:window.planted=1)`
	corpus := filepath.Join(t.TempDir(), markup+".json")
	strange := filepath.Join(t.TempDir(), "strategies.json")
	unknown := bytes.ReplaceAll(raw, []byte(`"Question"`), []byte(`"<img src=x onerror='window.planted=1'> | `+"`x`"+` [y](javascript:window.planted=1)"`))
	for path, content := range map[string][]byte{corpus: raw, strange: unknown} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, out := t.TempDir(), filepath.Join(t.TempDir(), "report")
	up, upLog := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = up.Process.Signal(syscall.SIGTERM)
		_ = up.Wait()
	}()
	for {
		if _, err := waitForStack(ctx, data); err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatalf("%v\n%s", err, upLog)
		}
	}
	args := []string{"run", "testdata/micro.yaml", "--data", data, "--set", "methods=base", "--set", "paradigms=vanilla", "--set", "backbone.tiny.pretrain.epochs=2",
		"--set", "limits.longer=trim", "--set", fmt.Sprintf("backbone.name=%q", markup)}
	run, said := esclab(t, ctx, append(args, "--set", "corpus.source="+corpus, "--report", out)...)
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	failing, said := esclab(t, ctx, append(args, "--set", "name=strange", "--set", "corpus.source="+strange)...)
	if _ = failing.Run(); failing.ProcessState.ExitCode() != exitFailed {
		t.Fatalf("the run with an unknown strategy ended with %d\n%s", failing.ProcessState.ExitCode(), said)
	}

	inReport := []string{"settled", "planted 0", "titled micro", "files 0", "script links 0", "Sample dialogues", "<script>", "onerror"}
	b.shows(t, ctx, (&url.URL{Scheme: "file", Path: filepath.Join(out, "report.html")}).String(), pageState, inReport...)
	source, err := os.ReadFile(filepath.Join(out, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	var rendered bytes.Buffer
	rendered.WriteString("<!DOCTYPE html><meta charset=utf-8><title>micro</title>")
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := md.Convert(source, &rendered); err != nil {
		t.Fatal(err)
	}
	b.shows(t, ctx, page("report.html", rendered.Bytes()), pageState, inReport...)

	address := func(run string) string { return strings.TrimSpace(output(t, ctx, "", "ui", run, "--data", data)) }
	b.shows(t, ctx, address("micro"), pageState, "settled", "planted 0", "script links 0", "✓ done", "<img src=x onerror=")
	b.shows(t, ctx, address("strange"), pageState, "settled", "planted 0", "script links 0", "✗ failed", "strategies.json", "<img src=x onerror=")
	if n := asked.Load(); n != 0 {
		t.Errorf("the pages asked for %d files of the corpus", n)
	}
}
