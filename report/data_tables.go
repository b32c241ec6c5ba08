package report

import (
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// Split is a part of the corpus.
type Split struct {
	Name       string         `json:"name"`
	Statistics esc.Statistics `json:"statistics"`
	Phases     esc.Phases     `json:"phases"` // strategies by phase of the dialogue
}

// Pairs are one role's mined preference pairs, of one seed.
type Pairs struct {
	Role  esc.Role  `json:"role"`
	Seed  *uint64   `json:"seed,omitempty"` // absent where there is one
	Mined esc.Mined `json:"mined"`
	// Judge labelled the errors; empty where nobody was asked.
	Judge string `json:"judge,omitempty"`
	// Gold and Rejected count the strategies of the two sides (Figure 9).
	Gold     [esc.NumStrategies]int `json:"gold_strategies"`
	Rejected [esc.NumStrategies]int `json:"rejected_strategies"`
}

// Scores are the judge's four scores, 0-5.
type Scores struct {
	Fluency         float64 `json:"fluency"`
	Professionalism float64 `json:"professionalism"`
	Empathy         float64 `json:"empathy"`
	Helpfulness     float64 `json:"helpfulness"`
}

// list gives the scores in the paper's order.
func (s Scores) list() [4]float64 {
	return [4]float64{s.Fluency, s.Professionalism, s.Empathy, s.Helpfulness}
}

// Quality compares the chosen with the rejected responses of a role's pairs:
// means over the pairs of all seeds (Table 2).
type Quality struct {
	Role     esc.Role `json:"role"`
	Judge    string   `json:"judge"`
	Samples  int      `json:"samples"` // pairs with a verdict
	Chosen   Scores   `json:"chosen"`
	Rejected Scores   `json:"rejected"`
}

// Wins says whose replies are preferred, those of the first system or those of
// the second (Figure 6).
type Wins struct {
	// By is the judge's name; People says that people answered, a rater each.
	By      string    `json:"by"`
	People  bool      `json:"people"`
	Systems [2]string `json:"systems"`
	Samples int       `json:"samples"` // turns that both systems reply to
	Raters  int       `json:"raters,omitempty"`
	// Statistic names the agreement of the raters, such as Cohen's kappa.
	Statistic string   `json:"agreement_statistic,omitempty"`
	Questions []Win    `json:"questions"`
	Notes     []string `json:"notes,omitempty"`
}

// Win is the answer to one question. Shares are of the answers, 0 to 1; nil
// without an answer.
type Win struct {
	Question  string   `json:"question"` // such as empathy; "all" for the reply as a whole, or for the questions together
	Answers   int      `json:"answers"`
	Win       *Share   `json:"win"`
	Tie       *Share   `json:"tie"`
	Loss      *Share   `json:"loss"`
	Agreement *float64 `json:"agreement,omitempty"`
}

// Share is a share with its 95 % interval.
type Share struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// preparedWins drops shares that are not finite.
func preparedWins(wins []Wins) []Wins {
	wins = slices.Clone(wins)
	for w := range wins {
		questions := slices.Clone(wins[w].Questions)
		for i := range questions {
			q := &questions[i]
			for _, s := range []**Share{&q.Win, &q.Tie, &q.Loss} {
				if *s != nil && (notFinite((*s).Value) || notFinite((*s).Low) || notFinite((*s).High)) {
					*s = nil
				}
			}
			q.Agreement = finite(q.Agreement)
		}
		wins[w].Questions = questions
	}
	return wins
}

// DPO is how a role was trained on its pairs (Table 7).
type DPO struct {
	Stage        string           `json:"stage"`
	Role         esc.Role         `json:"role"`
	Pairs        esc.PairSet      `json:"pairs"`
	Loss         experiments.Loss `json:"loss"`
	LearningRate float64          `json:"learning_rate"`
	Beta         float64          `json:"beta"`
	Epochs       int              `json:"epochs"`
	BatchSize    int              `json:"batch_size"`
}
