package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// paperJSON has the figures of the paper's Tables 1 to 7, the one figure that its
// text gives of Figure 7, and the errors of FailedESConv by the labels that the
// authors published (Figure 2).
//
//go:embed paper.json
var paperJSON []byte

// paper is what the paper reports.
type paper struct {
	Columns   []string        `json:"columns"`
	Backbones []paperBackbone `json:"backbones"`
	Corpus    esc.Statistics  `json:"corpus"` // train split
	// NoError is the share of replies without an error, in percent, by system
	// (section 6.2, RQ4).
	NoError map[string]float64 `json:"no_error"`
	// FailedESConv counts the labels of its responses; labels outside the five
	// classes count as none.
	FailedESConv Errors `json:"failed_esconv"`
}

type paperBackbone struct {
	Name   string     `json:"name"`
	Table3 []paperRow `json:"table3"`
	Table5 []paperRow `json:"table5"`
	Pairs  paperPairs `json:"pairs"`

	// Quality is Table 2, Given Table 4 by method: the judge's four scores.
	Quality struct {
		Chosen   [4]float64 `json:"chosen"`
		Rejected [4]float64 `json:"rejected"`
	} `json:"quality"`
	Given map[experiments.Method][4]float64 `json:"given"`
	DPO   map[esc.Role]paperDPO             `json:"dpo"` // Table 7
}

type paperDPO struct {
	LearningRate float64 `json:"learning_rate"`
	Beta         float64 `json:"beta"`
}

type paperRow struct {
	Paradigm experiments.Paradigm `json:"paradigm"`
	Method   experiments.Method   `json:"method"`
	Pairs    esc.PairSet          `json:"pairs"`
	Values   []float64            `json:"values"`
}

type paperPairs struct {
	StrategyPairs int     `json:"strategy_pairs"`
	ResponsePairs int     `json:"response_pairs"`
	CharsChosen   float64 `json:"avg_chars_chosen"`
	CharsRejected float64 `json:"avg_chars_rejected"`
	LackOfEmpathy int     `json:"lack_of_empathy"`
	EmotionShift  int     `json:"early_emotion_shift"`
	Template      int     `json:"template_response"`
}

func loadPaper() (paper, error) {
	var p paper
	if err := json.Unmarshal(paperJSON, &p); err != nil {
		return p, fmt.Errorf("report: decode paper.json: %w", err)
	}
	for i, c := range columns() {
		if i >= len(p.Columns) || p.Columns[i] != c.name {
			return p, fmt.Errorf("report: paper.json: column %d is not %s", i, c.name)
		}
	}
	for _, b := range p.Backbones {
		for _, r := range append(b.Table3, b.Table5...) {
			if len(r.Values) != len(p.Columns) {
				return p, fmt.Errorf("report: paper.json: %s %s/%s has %d values", b.Name, r.Paradigm, r.Method, len(r.Values))
			}
		}
	}
	return p, nil
}

// compared returns the paper's backbone that a backbone's figures stand next
// to: its own, or Qwen2.5 for one that the paper does not have. same says
// which of the two it is.
func (p paper) compared(backbone string) (b paperBackbone, same bool) {
	name := strings.ToLower(backbone)
	for _, b := range p.Backbones {
		family, size, _ := strings.Cut(strings.ToLower(strings.TrimSuffix(b.Name, "-Instruct")), "-")
		// "llama3.1" also goes by "llama-3.1".
		plain := strings.ReplaceAll(name, "llama-", "llama")
		if strings.Contains(plain, family+"-"+size) {
			return b, true
		}
	}
	return p.Backbones[0], false
}

// find returns the paper's figures for a system: Table 3's row, or Table 5's
// for a pair set of its own.
func (b paperBackbone) find(paradigm experiments.Paradigm, method experiments.Method, pairs esc.PairSet) []float64 {
	rows := b.Table3
	if pairs == esc.PairsAll {
		pairs = ""
	}
	if pairs != "" {
		rows = b.Table5
	}
	for _, r := range rows {
		if r.Paradigm == paradigm && r.Method == method && r.Pairs == pairs {
			return r.Values
		}
	}
	return nil
}
