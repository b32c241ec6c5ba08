package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// golden decodes a file of ../shared/golden/metrics (as seen from the root).
func golden(t testing.TB, name string, into any) {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "golden", "metrics", name)
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("reference data %s is absent: put the project's shared data beside the repository to run this test", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func newTokenizer(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := NewTokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestWordTokenizeEqualsNLTK(t *testing.T) {
	var cases map[string][]struct {
		Text   string
		Tokens []string
	}
	golden(t, "word_tokenize.json", &cases)
	tok := newTokenizer(t)
	n := 0
	for set, list := range cases {
		for _, c := range list {
			n++
			if got := tok.WordTokenize(c.Text); !slices.Equal(got, c.Tokens) {
				t.Errorf("%s %q:\n got %q\nwant %q", set, c.Text, got, c.Tokens)
			}
		}
	}
	if n != 1780 {
		t.Errorf("compared %d texts, want 1780", n)
	}
}

// goldenScores has the names of the reference's columns.
type goldenScores struct {
	Length    float64 `json:"length"`
	Distinct1 float64 `json:"dist-1"`
	Distinct2 float64 `json:"dist-2"`
	Distinct3 float64 `json:"dist-3"`
	Bleu1     float64 `json:"bleu-1"`
	Bleu2     float64 `json:"bleu-2"`
	Bleu3     float64 `json:"bleu-3"`
	Bleu4     float64 `json:"bleu-4"`
	F1        float64 `json:"f1"`
	RougeL    float64 `json:"rouge-l"`
}

type goldenInput struct {
	Dialogue, Turn  int
	GoldStrategy    string `json:"GT_strategy"`
	PredictStrategy string `json:"predict_strategy"`
	GoldContent     string `json:"GT_content"`
	PredictContent  string `json:"predict_content"`
}

type goldenBias struct {
	Error string
	Total struct {
		Bias     float64 `json:"p_bias"`
		Weighted float64 `json:"weighted_f1_score"`
		Macro    float64 `json:"Macro F1 (Q)"`
	} `json:"total_metrics"`
	Strategies map[string]struct {
		Preference float64 `json:"preference"`
		F1         float64 `json:"each f1 score"`
	} `json:"strategy_metrics"`
}

const tolerated = 1e-9

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerated) {
		t.Errorf("%s = %.15g, want %.15g", what, got, want)
	}
}

func nearScores(t *testing.T, what string, got Scores, want goldenScores) {
	t.Helper()
	converted := Scores(want)
	for f, v := range got.fields() {
		near(t, fmt.Sprintf("%s, metric %d", what, f), *v, *converted.fields()[f])
	}
}

func nearBias(t *testing.T, what string, got StrategyReport, want goldenBias, order []string) {
	t.Helper()
	near(t, what+" bias", got.PreferenceBias, want.Total.Bias)
	near(t, what+" weighted F1", got.WeightedF1/100, want.Total.Weighted)
	near(t, what+" macro F1", got.MacroF1/100, want.Total.Macro)
	for i, name := range order {
		near(t, what+" preference of "+name, got.Preference[i], want.Strategies[strings.ToLower(name)].Preference)
		near(t, what+" F1 of "+name, got.F1[i]/100, want.Strategies[strings.ToLower(name)].F1)
	}
}

func samplesOf(inputs []goldenInput) []Sample {
	samples := make([]Sample, len(inputs))
	for i, in := range inputs {
		samples[i] = Sample{Gold: in.GoldContent, Response: in.PredictContent}
	}
	return samples
}

func TestScoreEqualsReference(t *testing.T) {
	var inputs []goldenInput
	golden(t, "inputs.json", &inputs)
	var want struct {
		Average   goldenScores   `json:"eval_py_per_sample_average"`
		Corpus    goldenScores   `json:"corpus_level"`
		PerSample []goldenScores `json:"per_sample"`
		Bias      struct {
			goldenBias
			Table [][]int  `json:"bt_table_rows_predicted_cols_gold"`
			Order []string `json:"strategy_order"`
		}
	}
	golden(t, "outputs.json", &want)

	class := func(name string) int { return slices.Index(want.Bias.Order, strings.ToLower(name)) }
	tok := newTokenizer(t)
	scorer, err := NewScorer(tok, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range inputs {
		err := scorer.Add(Prediction{
			GoldStrategy: class(in.GoldStrategy), Strategy: class(in.PredictStrategy),
			GoldResponse: in.GoldContent, Response: in.PredictContent,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := scorer.Report()
	if err != nil {
		t.Fatal(err)
	}
	automatic, err := Automatic(tok, samplesOf(inputs))
	if err != nil {
		t.Fatal(err)
	}
	if len(automatic.PerSample) != len(want.PerSample) || len(want.PerSample) != 1662 {
		t.Fatalf("%d samples scored, want %d", len(automatic.PerSample), len(want.PerSample))
	}
	for i, s := range automatic.PerSample {
		nearScores(t, fmt.Sprintf("sample %d", i), s, want.PerSample[i])
	}
	nearScores(t, "average", automatic.Average, want.Average)
	nearScores(t, "corpus", automatic.Corpus, want.Corpus)
	if got.Average != automatic.Average || got.Samples != automatic.Samples {
		t.Errorf("one by one: %d samples, %+v; want %d, %+v", got.Samples, got.Average, automatic.Samples, automatic.Average)
	}
	nearBias(t, "strategies", got.Strategy, want.Bias.goldenBias, want.Bias.Order)
	if !reflect.DeepEqual(got.Strategy.Confusion, want.Bias.Table) {
		t.Errorf("confusion %v, want %v", got.Strategy.Confusion, want.Bias.Table)
	}
	if !got.Strategy.BiasDefined || got.Strategy.Note != "" || got.Strategy.Dropped != 0 {
		t.Errorf("unexpected remark: %+v", got.Strategy)
	}
	near(t, "bias", got.Strategy.PreferenceBias, want.Bias.Total.Bias)
}

func TestEdgeSamplesEqualReference(t *testing.T) {
	var inputs []goldenInput
	golden(t, "edge_inputs.json", &inputs)
	var want struct {
		PerSample []goldenScores `json:"per_sample"`
		Corpus    goldenScores   `json:"corpus_level"`
	}
	golden(t, "edge_outputs.json", &want)
	got, err := Automatic(newTokenizer(t), samplesOf(inputs))
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range got.PerSample {
		nearScores(t, fmt.Sprintf("edge sample %d", i), s, want.PerSample[i])
	}
	nearScores(t, "edge corpus", got.Corpus, want.Corpus)
}

func TestBiasEdgesEqualReference(t *testing.T) {
	var raw map[string]json.RawMessage
	golden(t, "bias_edge.json", &raw)
	var order []string
	if err := json.Unmarshal(raw["strategy_order"], &order); err != nil {
		t.Fatal(err)
	}
	delete(raw, "strategy_order")
	undefined := 0
	for name, body := range raw {
		var c struct {
			Pairs   [][2]int `json:"pairs_GT_predict"`
			Result  goldenBias
			Dropped []string `json:"dropped_line"`
		}
		if err := json.Unmarshal(body, &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		gold, predicted := make([]int, len(c.Pairs)), make([]int, len(c.Pairs))
		for i, p := range c.Pairs {
			gold[i], predicted[i] = p[0], p[1]
		}
		got, err := Strategy(gold, predicted, 8)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dropped := []string{fmt.Sprintf(": %d ", got.Dropped), fmt.Sprintf("error_ratio: %.2f%%", got.DroppedPercent)}
		if !slices.Equal(dropped, c.Dropped) {
			t.Errorf("%s: dropped %q, want %q", name, dropped, c.Dropped)
		}
		if c.Result.Error == "" {
			nearBias(t, name, got, c.Result, order)
			continue
		}
		undefined++
		if got.BiasDefined || got.Note == "" {
			t.Errorf("%s: the reference fails with %s, but the bias is called defined: %+v", name, c.Result.Error, got)
		}
		if math.IsNaN(got.PreferenceBias) || math.IsInf(got.PreferenceBias, 0) {
			t.Errorf("%s: bias %v", name, got.PreferenceBias)
		}
	}
	if undefined != 3 {
		t.Errorf("%d cases without a reference, want 3", undefined)
	}
}
