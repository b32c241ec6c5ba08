package main

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

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
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "results", "tiny-esconv", "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := report.Read(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := report.HTML(&page, d); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{400, 1280, 1920} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			framed := fmt.Sprintf(`<!DOCTYPE html><iframe style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe>`, width, html.EscapeString(page.String()))
			want := []string{"drawn", "page too wide by 0", "names in sight"}
			if width >= 1280 {
				want = append(want, "clipped []")
			}
			b.shows(t, ctx, (&url.URL{Scheme: "file", Path: writeFile(t, "framed.html", framed)}).String(), fitsFrame, want...)
		})
	}
}
