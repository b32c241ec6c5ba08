package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// sample is a Sample in words: the gold reply, then the systems' replies side by
// side, a row a method and a column a paradigm.
type sample struct {
	Title   string
	Context []message
	Gold    reply
	Columns []string   // the paradigms
	Rows    []replyRow // in Table 3's order
}

// replyRow holds a method's replies by paradigm; one that a paradigm does not
// have is nil.
type replyRow struct {
	Method  string
	Replies []*reply
}

// message is a message of the context; the strategy that the authors put in
// front of an assistant's stands apart.
type message struct {
	Role, Strategy, Content string
}

// reply is a reply in words. Agrees says that its strategy is the gold one,
// Clean that the judge found no error in it.
type reply struct {
	System, Strategy, Response string
	Errors                     []string
	Agrees, Clean              bool
}

func sampleSection(d Data, _ paper) (section, error) {
	s := section{ID: "samples", Title: "Sample dialogues", Missing: "no system replied to a turn",
		Text: []string{"Test turns, drawn by the seed: the conversation so far, the gold reply, and the systems' replies side by side. A strategy that is the gold one has a tick; errors are the judge's."}}
	if d.WithoutSamples {
		s.Missing = "left out of this copy (--no-samples)"
		return s, nil
	}
	if len(d.Run.Seeds) > 1 {
		s.Text = append(s.Text, fmt.Sprintf("The replies are those of the first seed, %d.", d.Run.Seed))
	}
	for _, in := range d.Samples {
		out := sample{
			Title: fmt.Sprintf("Dialogue %d, turn %d", in.Dialogue, in.Turn),
			Gold:  reply{System: "gold", Strategy: in.Strategy.String(), Response: in.Response},
		}
		for _, m := range in.Context {
			out.Context = append(out.Context, newMessage(m))
		}
		for _, r := range in.Replies {
			out.add(r, in.Strategy)
		}
		for i := range out.Rows { // the last columns may have come later
			for len(out.Rows[i].Replies) < len(out.Columns) {
				out.Rows[i].Replies = append(out.Rows[i].Replies, nil)
			}
		}
		s.Samples = append(s.Samples, out)
	}
	return s, nil
}

// add puts a system's reply into its paradigm's column and its method's row.
func (s *sample) add(r Reply, gold esc.Strategy) {
	paradigm, method, _ := strings.Cut(r.System, "/")
	column := slices.Index(s.Columns, paradigmName(experiments.Paradigm(paradigm)))
	if column < 0 {
		column = len(s.Columns)
		s.Columns = append(s.Columns, paradigmName(experiments.Paradigm(paradigm)))
	}
	plain, set, _ := strings.Cut(method, "/")
	method = methodName(experiments.Method(plain), esc.PairSet(set))
	row := slices.IndexFunc(s.Rows, func(row replyRow) bool { return row.Method == method })
	if row < 0 {
		row = len(s.Rows)
		s.Rows = append(s.Rows, replyRow{Method: method})
	}
	replies := &s.Rows[row].Replies
	for len(*replies) <= column {
		*replies = append(*replies, nil)
	}
	(*replies)[column] = &reply{
		System: r.System, Strategy: r.Strategy.String(), Response: r.Response, Errors: errorNames(r.Errors),
		Agrees: r.Strategy.Valid() && r.Strategy == gold, Clean: r.Judged && len(r.Errors) == 0,
	}
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

func errorNames(errors []esc.PsyError) []string {
	var names []string
	for _, e := range errors {
		names = append(names, e.Name())
	}
	return names
}
