package human

import (
	"encoding/csv"
	"fmt"
	"io"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/inert"
)

// Columns of a sheet besides the questions'.
const (
	columnSample  = "sample"
	columnContext = "conversation"
	columnA       = "reply A"
	columnB       = "reply B"
	columnComment = "comment"
)

// bom lets spreadsheets on Windows see that the file is UTF-8; the others
// ignore it, and ReadSheet does.
const bom = "\ufeff"

// WriteSheet writes the sheet that raters fill, as CSV with a byte-order mark
// and CRLF, which every spreadsheet opens; separator is ',' or, for spreadsheets
// of a locale with a decimal comma, ';' or a tab. A text that begins like a formula
// has an apostrophe before it.
func WriteSheet(w io.Writer, samples []Sample, questions []Question, separator rune) error {
	if _, err := io.WriteString(w, bom); err != nil {
		return err
	}
	c := csv.NewWriter(w)
	c.Comma, c.UseCRLF = separator, true
	head := []string{columnSample, columnContext, columnA, columnB}
	for _, q := range questions {
		head = append(head, q.Name)
	}
	if err := c.Write(append(head, columnComment)); err != nil {
		return err
	}
	for _, s := range samples {
		row := make([]string, len(head)+1) // the answers and the comment stay empty
		row[0], row[1], row[2], row[3] = s.ID, inert.Cell(Conversation(s.Context)), inert.Cell(s.A), inert.Cell(s.B)
		if err := c.Write(row); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// Conversation is a context as raters read it: without strategies, which are
// the models' business, and without the fillers of the chat form.
func Conversation(context []esc.Message) string {
	var lines []string
	for _, m := range context {
		who, text := "Seeker", m.Content
		if m.Role == esc.AssistantRole {
			who, text = "Supporter", esc.ParseAnswer(esc.VM, m.Content).Response
		}
		if text = strings.TrimSpace(text); text != "" {
			lines = append(lines, who+": "+text)
		}
	}
	return strings.Join(lines, "\n")
}

// WriteInstructions writes what raters have to know.
func WriteInstructions(w io.Writer, samples int, questions []Question) error {
	var b strings.Builder
	fmt.Fprintf(&b, `How to fill the sheet

Open sheet.csv with a spreadsheet program. Each of its %d rows is a moment of a
conversation between a person who seeks support and a supporter, and two replies
that the supporter could give next, A and B. Both were written by programs; which
program wrote which changes from row to row.

Read the conversation, then both replies, and answer for each row:

`, samples)
	for _, q := range questions {
		fmt.Fprintf(&b, "  %-16s %s\n", q.Name, q.Text)
	}
	b.WriteString(`
Write A, B or tie into the question's column. Write tie where neither is better;
leave the cell empty only if you cannot say at all. Each question stands for
itself: a reply may win one and lose another. Longer is not better as such.
Anything may go into the comment.

Do not change the other columns and do not talk about the samples with other
raters before all have finished. Save the sheet as CSV under your own name, such
as anna.csv, and send it back.
`)
	_, err := io.WriteString(w, b.String())
	return err
}
