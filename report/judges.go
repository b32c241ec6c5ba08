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
	Quality   []Quality  `json:"quality"`
	Wins      []Wins     `json:"wins"`
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
	j.Wins = preparedWins(j.Wins)
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

// judges are the run's own judge and those besides; none where it is the only one.
func (d Data) judges() []OtherJudge {
	if len(d.OtherJudges) == 0 {
		return nil
	}
	own := OtherJudge{Name: "judge", Judge: d.Run.Judge, Questions: d.Questions, Quality: d.Quality}
	for _, r := range slices.Concat(d.Systems, d.Given, d.Anchors) {
		if row := judgedRow(r); row.Quality != nil {
			own.Rows = append(own.Rows, row)
		}
	}
	for _, w := range d.Wins {
		if !w.People {
			own.Wins = append(own.Wins, w)
		}
	}
	return append([]OtherJudge{own}, d.OtherJudges...)
}

// judgeHeads are the columns of several judges, beside the named ones.
func judgeHeads(judges []OtherJudge, names ...string) []head {
	var heads []head
	for _, name := range names {
		heads = append(heads, head{Text: name})
	}
	for _, j := range judges {
		heads = append(heads, head{fmt.Sprintf("%s: %s", j.Name, j.Judge.Name), true})
	}
	return heads
}

// judgeTables put the verdicts of several judges side by side.
func judgeTables(d Data) []table {
	all := d.judges()
	if len(all) == 0 {
		return nil
	}
	own := all[0]
	verdicts := table{
		Caption: "Verdicts under each judge of the same replies", Heads: judgeHeads(all, "Question", "Measure", "System", "Against"),
		Sources: d.sources(nil, experiments.KindJudge),
	}
	means := table{
		Caption: "The same replies under each judge: mean of the four scores, and % without a psychological error",
		Heads:   judgeHeads(all, "System"), Sources: verdicts.Sources,
	}
	for _, q := range d.Questions {
		row := []cell{text(q.Name), text("verdict"), text(""), text("")}
		for _, j := range all {
			row = append(row, number(string(j.question(q.Name).Verdict)))
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
				row = append(row, number(value))
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

// winsByJudge puts Figure 6 under several judges side by side.
func winsByJudge(d Data) table {
	all := d.judges()
	t := table{
		Caption: "Win rates under each judge, in % of the turns with 95 % bootstrap intervals", Heads: judgeHeads(all, "System", "Against", "Outcome"),
		Sources: d.sources(nil, experiments.KindPrefer),
	}
	if len(all) == 0 {
		return t
	}
	for _, w := range all[0].Wins {
		for i, outcome := range []string{"win", "tie", "loss"} {
			row := []cell{text(w.Systems[0]), text(w.Systems[1]), text(outcome)}
			for _, j := range all {
				shares := [3]*Share{}
				if k := slices.IndexFunc(j.Wins, func(of Wins) bool { return of.Systems == w.Systems }); k >= 0 && len(j.Wins[k].Questions) > 0 {
					q := j.Wins[k].Questions[0] // a judge answers one
					shares = [3]*Share{q.Win, q.Tie, q.Loss}
				}
				row = append(row, shares[i].cell())
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// qualityByJudge puts Table 2 under several judges side by side.
func qualityByJudge(d Data) table {
	all := d.judges()
	t := table{
		Caption: "Scores of chosen and rejected responses under each judge, and by how much the chosen ones are better",
		Heads:   judgeHeads(all, "Pairs", "Criterion"), Sources: d.sources(nil, experiments.KindQuality),
	}
	if len(all) == 0 {
		return t
	}
	for _, q := range all[0].Quality {
		for i, criterion := range scoreHeads() {
			row := []cell{text(pairsName(q.Role)), text(criterion.Text)}
			for _, j := range all {
				value := absent
				if k := slices.IndexFunc(j.Quality, func(of Quality) bool { return of.Role == q.Role }); k >= 0 {
					chosen, rejected := j.Quality[k].Chosen.list()[i], j.Quality[k].Rejected.list()[i]
					value = fmt.Sprintf("%.2f; %.2f (%s)", chosen, rejected, percentage(improvement(chosen, rejected)))
				}
				row = append(row, number(value))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	span(t.Rows, 0)
	return t
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
