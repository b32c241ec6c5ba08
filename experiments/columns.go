package experiments

import "strings"

// Column is one of Table 3's columns.
type Column struct {
	Name    string // of the stages' metric, and in JSON and CSV
	Head    string // as the paper heads it
	Smaller bool   // the smaller the better
}

// Judged reports whether the column is the judge's.
func (c Column) Judged() bool {
	switch c.Name {
	case "fluency", "professionalism", "empathy", "helpfulness":
		return true
	}
	return false
}

// Table3 lists the columns in the paper's order: percent but for the judge's
// scores (0-5) and the preference bias B.
func Table3() []Column {
	return []Column{
		{"distinct_1", "D-1", false}, {"bleu_1", "B-1", false}, {"f1", "F1", false}, {"rouge_l", "R-L", false},
		{"fluency", "Flu.", false}, {"professionalism", "Pro.", false}, {"empathy", "Emp.", false}, {"helpfulness", "Hel.", false},
		{"preference_bias", "B", true}, {"weighted_f1", "Qw", false}, {"macro_f1", "Q", false},
	}
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
