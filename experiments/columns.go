package experiments

import (
	"math"
	"strings"
)

// Column is one of Table 3's columns.
type Column struct {
	Name    string  // of the stages' metric, and in JSON and CSV
	Head    string  // as the paper heads it
	Kind    Kind    // of the stage that computes it: score, judge or bias
	Smaller bool    // the smaller the better
	Most    float64 // the largest value that there is; the smallest is 0
}

// Judged reports whether the column is the judge's.
func (c Column) Judged() bool { return c.Kind == KindJudge }

// ColumnBias is the name of the column of the preference bias B.
const ColumnBias = "preference_bias"

// NumColumns is the number of columns in Table 3.
const NumColumns = 11

// Table3 lists the columns in the paper's order: percent but for the judge's
// scores (0-5) and the preference bias B. Everything that shows, stores or
// compares the columns follows this list; package results has their numbers.
func Table3() []Column {
	var columns [NumColumns]Column = [...]Column{
		{"distinct_1", "D-1", KindScore, false, 100}, {"bleu_1", "B-1", KindScore, false, 100},
		{"f1", "F1", KindScore, false, 100}, {"rouge_l", "R-L", KindScore, false, 100},
		{"fluency", "Flu.", KindJudge, false, 5}, {"professionalism", "Pro.", KindJudge, false, 5},
		{"empathy", "Emp.", KindJudge, false, 5}, {"helpfulness", "Hel.", KindJudge, false, 5},
		{ColumnBias, "B", KindBias, true, math.Inf(1)}, {"weighted_f1", "Qw", KindBias, false, 100}, {"macro_f1", "Q", KindBias, false, 100},
	}
	return columns[:]
}

// FindColumn finds a column by its name or its head, in upper or lower case.
func FindColumn(name string) (Column, bool) {
	for _, c := range Table3() {
		if strings.EqualFold(name, c.Name) || strings.EqualFold(name, c.Head) {
			return c, true
		}
	}
	return Column{}, false
}
