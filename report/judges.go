package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// OtherJudge is a judge besides the run's own (judge.also), with what it says of
// the same replies.
type OtherJudge struct {
	Name  string      `json:"name"` // in the experiment
	Judge Judge       `json:"judge"`
	Rows  []JudgedRow `json:"rows"` // systems, then anchors
	// Checks and Questions are as Data's, by this judge's verdicts.
	Checks    []Effect   `json:"judge_checks"`
	Questions []Question `json:"questions"`
}

// JudgedRow is what a judge says of a system's or an anchor's replies.
type JudgedRow struct {
	System  string   `json:"system"`
	Quality *float64 `json:"quality"` // mean of the four scores, 0-5
	Clean   *float64 `json:"clean"`   // % without a psychological error
}

func (j OtherJudge) prepared() OtherJudge {
	j.Checks, j.Questions = preparedEffects(j.Checks), slices.Clone(j.Questions)
	for i := range j.Questions {
		j.Questions[i] = j.Questions[i].prepared(j.Checks)
	}
	j.Rows = slices.Clone(j.Rows)
	for i := range j.Rows {
		j.Rows[i].Quality, j.Rows[i].Clean = finite(j.Rows[i].Quality), finite(j.Rows[i].Clean)
	}
	return j
}

// circular says what to think of the judge's word where a judge has labelled the
// errors that became the preference pairs; "" where none has.
func (d Data) circular() string {
	var others []string
	for _, p := range d.Pairs {
		switch {
		case p.Judge == "":
		case p.Judge == d.Run.Judge.Name:
			return circularity
		case !slices.Contains(others, p.Judge):
			others = append(others, p.Judge)
		}
	}
	if len(others) == 0 || d.Run.Judge.Name == "" {
		return ""
	}
	return fmt.Sprintf("The errors that became the preference pairs were labelled by another judge than that of these replies: %s.", strings.Join(others, ", "))
}

// judgeTables put the verdicts of several judges side by side.
func judgeTables(d Data) []table {
	if len(d.OtherJudges) == 0 {
		return nil
	}
	verdicts := table{
		Caption: "Verdicts under each judge of the same replies", Heads: []head{{Text: "Question"}, {Text: "Measure"}, {Text: "System"}, {Text: "Against"}},
		Sources: d.sources(nil, experiments.KindJudge),
	}
	means := table{
		Caption: "The same replies under each judge: mean of the four scores, and % without a psychological error",
		Heads:   []head{{Text: "System"}}, Sources: verdicts.Sources,
	}
	own := OtherJudge{Name: "judge", Judge: d.Run.Judge, Questions: d.Questions}
	for _, r := range append(slices.Clone(d.Systems), d.Anchors...) {
		if row := judgedRow(r); row.Quality != nil {
			own.Rows = append(own.Rows, row)
		}
	}
	all := append([]OtherJudge{own}, d.OtherJudges...)
	for _, j := range all {
		by := fmt.Sprintf("%s: %s", j.Name, j.Judge.Name)
		verdicts.Heads = append(verdicts.Heads, head{Text: by})
		means.Heads = append(means.Heads, head{by, true})
	}
	for _, q := range d.Questions {
		row := []cell{text(q.Name), text("verdict"), text(""), text("")}
		for _, j := range all {
			row = append(row, text(string(j.question(q.Name).Verdict)))
		}
		verdicts.Rows = append(verdicts.Rows, row)
		for i, e := range q.Effects {
			if !e.Measure.Judged() {
				continue
			}
			row := []cell{text(q.Name), text(e.Measure.String()), text(e.System), text(e.Against)}
			for _, j := range all {
				value := absent
				if of := j.question(q.Name).Effects; i < len(of) && of[i].Difference != nil {
					value = fmt.Sprintf("%s [%s, %s]", signed(of[i].Difference), signed(of[i].Low), signed(of[i].High))
				}
				row = append(row, text(value))
			}
			verdicts.Rows = append(verdicts.Rows, row)
		}
	}
	for _, r := range own.Rows {
		row := []cell{text(r.System)}
		for _, j := range all {
			value := absent
			if i := slices.IndexFunc(j.Rows, func(other JudgedRow) bool { return other.System == r.System }); i >= 0 {
				value = fmt.Sprintf("%s; %s %%", fixed(j.Rows[i].Quality, 2), fixed(j.Rows[i].Clean, 1))
			}
			row = append(row, number(value))
		}
		means.Rows = append(means.Rows, row)
	}
	return nonEmpty(verdicts, means)
}

func (j OtherJudge) question(name string) Question {
	if i := slices.IndexFunc(j.Questions, func(q Question) bool { return q.Name == name }); i >= 0 {
		return j.Questions[i]
	}
	return Question{}
}

// judgedRow is what the run's own judge says of a row.
func judgedRow(r Row) JudgedRow {
	row := JudgedRow{System: r.System()}
	sum, n := 0.0, 0
	for c, column := range experiments.Table3() {
		if v := r.Columns[c]; column.Judged() && v != nil {
			sum, n = sum+*v, n+1
		}
	}
	if n > 0 {
		row.Quality = Value(sum / float64(n))
	}
	if r.Errors != nil && r.Errors.Judged > 0 {
		row.Clean = Value(100 * float64(r.Errors.Clean) / float64(r.Errors.Judged))
	}
	return row
}
