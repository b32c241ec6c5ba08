package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/esclab/esclab/esc"
)

// document is a report in no markup yet; HTML and Markdown draw it.
type document struct {
	Title string
	Facts [][2]string
	// Warning is set where the judge is the offline one.
	Warning  string
	Notes    []string
	Sections []section
}

type section struct {
	ID, Title string
	// Mark is set where the section's figures are the offline judge's.
	Mark    string
	Text    []string
	Tables  []table
	Figures []figure
	Samples []sample
}

// sample is a Sample in words.
type sample struct {
	Title   string
	Context []message
	Replies []reply // the gold one first
}

// message is a message of the context; the strategy that the authors put in
// front of an assistant's stands apart.
type message struct {
	Role, Strategy, Content string
}

type reply struct {
	System, Strategy, Response, Errors string
	Gold                               bool
}

const offlineMark = "offline judge"

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
	doc := document{Title: d.Run.Experiment, Notes: d.Notes, Facts: facts(d.Run)}
	if d.Run.Judge.Offline {
		doc.Warning = fmt.Sprintf("Fluency, professionalism, empathy, helpfulness and psychological errors come from the %s (%s): "+
			"fixed rules, not a language model. They compare this run's systems with each other and say nothing beside the paper's GPT-4.1-mini scores.",
			offlineMark, d.Run.Judge.Name)
	}
	for _, build := range []func(Data, paper) (section, error){
		resultsSection, questionSection, variantsSection, strategySection, errorSection, pairsSection,
		corpusSection, trainingSection, sampleSection, paperSection, provenanceSection,
	} {
		s, err := build(d, p)
		if err != nil {
			return document{}, err
		}
		if d.Run.Judge.Offline {
			switch s.ID {
			case "questions", "errors", "pairs", "samples":
				s.Mark = offlineMark
			}
		}
		if len(s.Tables)+len(s.Figures)+len(s.Samples) > 0 {
			doc.Sections = append(doc.Sections, s)
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
	if r.Judge.Samples > 0 {
		judge += fmt.Sprintf(", %d replies of each system", r.Judge.Samples)
	}
	all := [][2]string{
		{"Backbone", r.Backbone}, {"Engine", r.Engine},
		{"Seed", strconv.FormatUint(r.Seed, 10)}, {"Judge", judge}, {"Revision", r.Revision},
	}
	var out [][2]string
	for _, f := range all {
		if f[1] != "" {
			out = append(out, f)
		}
	}
	return out
}

func sampleSection(d Data, _ paper) (section, error) {
	s := section{ID: "samples", Title: "Sample dialogues",
		Text: []string{"Test turns with the gold reply and each system's, each with its strategy."}}
	for _, in := range d.Samples {
		out := sample{
			Title:   fmt.Sprintf("Dialogue %d, turn %d", in.Dialogue, in.Turn),
			Replies: []reply{{System: "gold", Strategy: in.Strategy.String(), Response: in.Response, Gold: true}},
		}
		for _, m := range in.Context {
			out.Context = append(out.Context, newMessage(m))
		}
		for _, r := range in.Replies {
			out.Replies = append(out.Replies, reply{
				System: r.System, Strategy: r.Strategy.String(), Response: r.Response, Errors: errorNames(r.Errors),
			})
		}
		s.Samples = append(s.Samples, out)
	}
	return s, nil
}

func newMessage(m esc.Message) message {
	out := message{Role: m.Role, Content: m.Content}
	if name, rest, ok := strings.Cut(strings.TrimPrefix(m.Content, "["), "] "); ok && strings.HasPrefix(m.Content, "[") {
		if s, err := esc.ParseStrategy(name); err == nil {
			out.Strategy, out.Content = s.String(), rest
		}
	}
	return out
}

func errorNames(errors []esc.PsyError) string {
	names := make([]string, len(errors))
	for i, e := range errors {
		names[i] = e.Name()
	}
	return strings.Join(names, ", ")
}

func provenanceSection(d Data, _ paper) (section, error) {
	t := table{
		Caption: "Every stage whose artifact this report rests on",
		Heads:   []head{{Text: "Stage"}, {Text: "Kind"}, {Text: "Fingerprint"}, {Text: "Artifact"}, {Text: "Engine"}},
	}
	for _, st := range d.Provenance {
		engine := st.Engine
		if engine == "" {
			engine = absent
		}
		t.Rows = append(t.Rows, []cell{text(st.Name), text(st.Kind), code(st.Fingerprint), code(st.Digest), text(engine)})
	}
	return section{ID: "provenance", Title: "Provenance", Tables: nonEmpty(t)}, nil
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
