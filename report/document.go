package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// document is a report in no markup yet; HTML and Markdown draw it.
type document struct {
	Title string
	Card  *card // nil where the run cannot answer
	Facts [][2]string
	YAML  string // of the experiment; may be empty
	// PaperShown says that the paper's figures stand beside this run's: its backbone
	// is one of the paper's.
	PaperShown bool
	// Warning is set where the judge is the offline one.
	Warning  string
	Notes    []string
	Refresh  int // seconds after which the page loads itself anew; 0: never
	Sections []section
	Missing  []string // what is not in the report, and why
}

type section struct {
	ID, Title string
	// Mark is set where the section's figures are the offline judge's.
	Mark    string
	Answers []answer
	Text    []string
	Tables  []table
	Figures []figure
	Samples []sample
	// Missing says in one line why a section has nothing to show.
	Missing string
}

const offlineMark = "offline judge"

// Summary is what a reader has to know of the run before its numbers.
func (d document) Summary() string {
	var all []string
	for _, f := range d.Facts {
		switch f[0] {
		case "Backbone", "Finished", "Stages took":
			all = append(all, strings.ToLower(f[0])+" "+f[1])
		}
	}
	return "About this run: " + strings.Join(all, ", ")
}

// newDocument lays the report out.
func newDocument(d Data) (document, error) {
	d, err := d.prepared()
	if err != nil {
		return document{}, err
	}
	p, err := loadPaper()
	if err != nil {
		return document{}, err
	}
	doc := document{Title: d.Run.Experiment, Notes: d.Notes, Facts: facts(d.Run), Card: newCard(d)}
	_, doc.PaperShown = p.compared(d.Run.Backbone)
	if u := d.Unfinished; u != nil {
		doc.Refresh = u.Seconds
		doc.Notes = append([]string{fmt.Sprintf("The run goes on: %d of its %d stages are done. A system is shown once all of its numbers are there; "+
			"the page is written anew as stages end, and loads itself every %d s.", u.Done, u.Stages, u.Seconds)}, doc.Notes...)
	}
	if a := d.About; a != nil && !a.Finished.IsZero() {
		doc.YAML = a.YAML
		doc.Facts = append(doc.Facts, [2]string{"Finished", a.Finished.UTC().Format("2006-01-02 15:04 MST")},
			[2]string{"Stages took", (time.Duration(a.Seconds) * time.Second).String()}, [2]string{"On", strings.Join(a.Hardware, "; ")})
	}
	if d.Run.Judge.Offline {
		doc.Warning = fmt.Sprintf("Fluency, professionalism, empathy, helpfulness and psychological errors come from the %s (%s): "+
			"fixed rules, not a language model. They compare this run's systems with each other and say nothing beside the paper's GPT-4.1-mini scores.",
			offlineMark, d.Run.Judge.Name)
	}
	for _, build := range []func(Data, paper) (section, error){
		resultsSection, questionSection, winSection, strategySection, errorSection, givenSection, variantsSection,
		pairsSection, corpusSection, trainingSection, sampleSection, paperSection, provenanceSection,
	} {
		s, err := build(d, p)
		if err != nil {
			return document{}, err
		}
		if d.Run.Judge.Offline {
			switch s.ID {
			case "questions", "errors", "pairs", "samples", "given":
				s.Mark = offlineMark
			}
		}
		switch {
		case len(s.Tables)+len(s.Figures)+len(s.Samples) > 0:
			doc.Sections = append(doc.Sections, s)
		case s.Missing != "":
			doc.Missing = append(doc.Missing, s.Title+": "+s.Missing+".")
		}
	}
	return doc, nil
}

func facts(r Run) [][2]string {
	judge := r.Judge.Name
	switch {
	case judge == "":
		judge = "none"
	case r.Judge.Offline:
		judge += " ⚠ " + offlineMark
	}
	if r.Judge.Protocol != "" {
		judge += fmt.Sprintf(", protocol %s", r.Judge.Protocol)
	}
	if r.Judge.Samples > 0 {
		judge += fmt.Sprintf(", %d replies of each system", r.Judge.Samples)
	}
	seed := [2]string{"Seed", strconv.FormatUint(r.Seed, 10)}
	if len(r.Seeds) > 1 {
		all := make([]string, len(r.Seeds))
		for i, s := range r.Seeds {
			all[i] = strconv.FormatUint(s, 10)
		}
		seed = [2]string{"Seeds", strings.Join(all, ", ")}
	}
	backbone := r.Backbone
	if r.Quantization != "" {
		backbone += ", from a GGUF file whose tensors are " + r.Quantization + ""
	}
	all := [][2]string{
		{"Backbone", backbone}, {"Engine", r.Engine},
		seed, {"Judge", judge}, {"Revision", r.Revision},
	}
	var out [][2]string
	for _, f := range all {
		if f[1] != "" {
			out = append(out, f)
		}
	}
	return out
}

// nonEmpty keeps the tables that have rows.
func nonEmpty(tables ...table) []table {
	var out []table
	for _, t := range tables {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}
