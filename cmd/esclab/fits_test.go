package main

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/report"
)

// fitsFrame says what of the page in a frame is wider than its place. Tables may be
// scrolled on a narrow screen, the page may not.
const fitsFrame = `(() => {
  const d = document.querySelector("iframe")?.contentDocument;
  if (!d?.querySelector("#results")) return "not there yet";
  d.querySelectorAll("details").forEach(e => e.open = true);
  const wide = [...d.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.querySelector("caption").textContent.slice(0, 40));
  const first = d.querySelector(".named .c2") ?? d.querySelector(".c0");
  first.closest(".scroll").scrollLeft = 500;
  const at = first.getBoundingClientRect();
  return "drawn; page too wide by " + Math.max(0, d.documentElement.scrollWidth - d.documentElement.clientWidth) +
    "; clipped " + JSON.stringify(wide) + "; names " + (at.left >= 0 && at.right <= d.documentElement.clientWidth ? "in sight" : "gone");
})()`

// TestReportFitsScreens: nothing is clipped at 1,280 px, and on a telephone the page
// does not scroll sideways and the names stay where a table does.
func TestReportFitsScreens(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	b := startBrowser(t, ctx)
	page := drawn(t, exampleReport(t))
	for _, width := range []int{400, 1280, 1920} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			framed := fmt.Sprintf(`<!DOCTYPE html><iframe style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe>`, width, html.EscapeString(page))
			want := []string{"drawn", "page too wide by 0", "names in sight"}
			if width >= 1280 {
				want = append(want, "clipped []")
			}
			b.shows(t, ctx, (&url.URL{Scheme: "file", Path: writeFile(t, "framed.html", framed)}).String(), fitsFrame, want...)
		})
	}
}

// exampleReport has the numbers of docs/results/tiny-esconv.
func exampleReport(t *testing.T) report.Data {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "results", "tiny-esconv", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := report.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func drawn(t *testing.T, d report.Data) string {
	t.Helper()
	var page bytes.Buffer
	if err := report.HTML(&page, d); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// envAxe names axe-core's axe.min.js.
const envAxe = "ESCLAB_TEST_AXE"

// TestReportByAxe: axe-core finds nothing serious in a report, with all its folds
// open, on a telephone and on screens, light and dark.
func TestReportByAxe(t *testing.T) {
	path := os.Getenv(envAxe)
	if path == "" {
		t.Skipf("%s names no axe-core: make ui-check, or npm install --prefix DIR axe-core, then %s=DIR/node_modules/axe-core/axe.min.js", envAxe, envAxe)
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	b := startBrowser(t, ctx)
	b.patience = time.Minute // a page answers nothing while axe looks at it
	d := exampleReport(t)
	d.About = &report.About{Finished: time.Unix(1.7e9, 0), Seconds: 60, Hardware: []string{"a processor"}, YAML: strings.Repeat("name: a long line of an experiment ", 9)}
	long := report.Sample{Strategy: esc.Question, Response: "How are you?", Replies: []report.Reply{
		{System: "vanilla/sft", Strategy: esc.Question, Response: "And you?", Judged: true},
		{System: "decoupled/dpo", Strategy: esc.Others, Response: "Hello.", Judged: true, Errors: []esc.PsyError{esc.PsyErrors()[0]}},
	}}
	for range 20 {
		long.Context = append(long.Context, esc.Message{Role: esc.UserRole, Content: "I lost my job."}, esc.Message{Role: esc.AssistantRole, Content: "That is hard."})
	}
	d.WithoutSamples, d.Samples = false, []report.Sample{long}
	page := (&url.URL{Scheme: "file", Path: writeFile(t, "report.html", drawn(t, d))}).String()
	look := `(() => {
  if (document.readyState !== "complete") return "";
  if (window.found === undefined) {
    window.found = "";
    document.querySelectorAll("details").forEach(e => e.open = true);
    ` + string(axe) + `;
    axe.run(document, {resultTypes: ["violations"]}).then(r => {
      const serious = r.violations.filter(v => v.impact === "serious" || v.impact === "critical");
      window.found = r.passes.length + r.violations.length < 10 ? "axe has looked at next to nothing" : "serious: " +
        JSON.stringify(serious.map(v => [v.id, v.nodes.length, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + " " + n.failureSummary)]));
    }, e => window.found = "axe failed: " + e);
  }
  return window.found;
})()`
	for _, width := range []int{400, 1280, 1920} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprintf("%d px, %s", width, scheme), func(t *testing.T) {
				b.showsOn(t, ctx, screenOf(width, scheme), page, look, "serious: []")
			})
		}
	}
}
