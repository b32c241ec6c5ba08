package results

import (
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
)

// Judged is one reply with what the judge says of it.
type Judged struct {
	esc.Place
	Findings []judge.Finding `json:"findings"`
	Scores   judge.Scores    `json:"scores"`
	// Problem says why the judge gave no verdict; such a reply counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// Verdict sums the judged replies up.
type Verdict struct {
	Judge string `json:"judge"`
	// Protocol is the one by which a language model was asked; absent for the offline judge.
	Protocol string               `json:"protocol,omitempty"`
	Samples  int                  `json:"samples"`
	Scores   judge.Scores         `json:"scores"` // means
	Errors   map[esc.PsyError]int `json:"errors"`
	// Unjudged counts the replies without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// SumJudged sums replies up that the named judge has judged; example is the
// first one without a verdict.
func SumJudged(name string, all []Judged) (sum Verdict, example string) {
	sum = Verdict{Judge: name, Errors: map[esc.PsyError]int{}}
	for _, one := range all {
		if one.Problem != "" {
			if sum.Unjudged++; sum.Unjudged == 1 {
				example = unjudged(one.Place, one.Problem)
			}
		}
	}
	sum.Samples = len(all) - sum.Unjudged
	for _, one := range all {
		if one.Problem != "" {
			continue
		}
		for _, f := range one.Findings {
			sum.Errors[f.Error]++
		}
		addShare(&sum.Scores, one.Scores, sum.Samples)
	}
	return sum, example
}

// unjudged names a text without a verdict.
func unjudged(at esc.Place, problem string) string {
	return fmt.Sprintf("dialogue %d, turn %d: %s", at.Dialogue, at.Turn, problem)
}

// addShare adds a score's share of a mean over n.
func addShare(mean *judge.Scores, s judge.Scores, n int) {
	for i, v := range s.Fields() {
		*mean.Fields()[i] += *v / float64(n)
	}
}

// Compared is one turn at which two systems' replies were compared.
type Compared struct {
	esc.Place
	judge.Preference
	// Problem says why the judge gave no verdict; such a turn counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// Preference sums a comparison up.
type Preference struct {
	Judge  string `json:"judge"`
	First  string `json:"first"` // the systems' names
	Second string `json:"second"`
	// Samples are the turns with a verdict: Wins of the first system, Ties,
	// where the two orders do not agree on one, and Losses.
	Samples int `json:"samples"`
	Wins    int `json:"wins"`
	Ties    int `json:"ties"`
	Losses  int `json:"losses"`
	// WinRate is the mean share of the first system over the turns and the two
	// orders, 0 to 1; a tie counts half.
	WinRate float64 `json:"win_rate"`
	// Unjudged counts the turns without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// SumCompared counts the turns at which the named judge has compared two
// systems; example is the first turn without a verdict.
func SumCompared(name, first, second string, all []Compared) (p Preference, example string) {
	p = Preference{Judge: name, First: first, Second: second}
	shares := 0.0
	for _, one := range all {
		if one.Problem != "" {
			if p.Unjudged++; p.Unjudged == 1 {
				example = unjudged(one.Place, one.Problem)
			}
			continue
		}
		p.Samples++
		shares += one.First
		switch {
		case one.First > 0.5:
			p.Wins++
		case one.First < 0.5:
			p.Losses++
		default:
			p.Ties++
		}
	}
	if p.Samples > 0 {
		p.WinRate = shares / float64(p.Samples)
	}
	return p, example
}

// ScoredPair is a preference pair with the judge's scores of its two responses.
type ScoredPair struct {
	esc.Place              // in the train split
	Draw      int          `json:"draw"`
	Chosen    judge.Scores `json:"chosen"`
	Rejected  judge.Scores `json:"rejected"`
	// Problem says why the judge gave no verdict; such a pair counts nowhere.
	Problem string `json:"problem,omitempty"`
}

// Quality sums the scores of a role's pairs up (Table 2).
type Quality struct {
	Judge    string       `json:"judge"`
	Role     esc.Role     `json:"role"`
	Samples  int          `json:"samples"` // pairs with a verdict
	Chosen   judge.Scores `json:"chosen"`  // means
	Rejected judge.Scores `json:"rejected"`
	// Unjudged counts the pairs without a verdict, which Samples leaves out.
	Unjudged int `json:"unjudged,omitempty"`
}

// SumScoredPairs gives the means of a role's pairs that the named judge has
// scored; example is the first pair without a verdict.
func SumScoredPairs(name string, role esc.Role, all []ScoredPair) (q Quality, example string) {
	q = Quality{Judge: name, Role: role}
	for _, one := range all {
		if one.Problem != "" {
			if q.Unjudged++; q.Unjudged == 1 {
				example = "train " + unjudged(one.Place, one.Problem)
			}
		}
	}
	q.Samples = len(all) - q.Unjudged
	for _, one := range all {
		if one.Problem == "" {
			addShare(&q.Chosen, one.Chosen, q.Samples)
			addShare(&q.Rejected, one.Rejected, q.Samples)
		}
	}
	return q, example
}
