package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed report.html.tmpl
var pageTemplate string

//go:embed style.css
var style string

// HTML writes the report as one file that needs no other: the style and the
// figures are in it. Everything that comes from data is escaped.
func HTML(w io.Writer, d Data) error {
	doc, err := newDocument(d)
	if err != nil {
		return err
	}
	page, err := template.New("report").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("report: parse the page: %w", err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, struct {
		document
		Style template.CSS
	}{doc, template.CSS(style)}); err != nil {
		return fmt.Errorf("report: draw the page: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}
