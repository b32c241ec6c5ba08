package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestWordTokenize(t *testing.T) {
	tok := newTokenizer(t)
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" \n\t", nil},
		{"I can't. Don't you?", []string{"I", "ca", "n't", ".", "Do", "n't", "you", "?"}},
		{"dr. who isn't here.", []string{"dr.", "who", "is", "n't", "here", "."}},
		{`she said "no" (twice)`, []string{"she", "said", "``", "no", "''", "(", "twice", ")"}},
		{"wait... what", []string{"wait", "...", "what"}},
		{"i'm gonna go", []string{"i", "'m", "gon", "na", "go"}},
	} {
		if got := tok.WordTokenize(c.text); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestLowerIsPythons(t *testing.T) {
	for in, want := range map[string]string{
		"ABC xyz": "abc xyz",
		"ΟΔΟΣ":    "οδος",
		"İ":       "i\u0307",
		"É":       "é",
	} {
		if got := lower(in); got != want {
			t.Errorf("lower(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAutomaticWithoutSamples(t *testing.T) {
	if _, err := Automatic(newTokenizer(t), nil); !errors.Is(err, ErrNoSamples) {
		t.Errorf("error %v, want ErrNoSamples", err)
	}
}

func TestAutomaticIsCaseInsensitive(t *testing.T) {
	r, err := Automatic(newTokenizer(t), []Sample{{Gold: "Hello there", Response: "HELLO there"}})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.Average; a.F1 != 100 || a.Bleu1 != 100 || a.Length != 2 {
		t.Errorf("scores %+v of equal texts", a)
	}
}

func TestPreferenceOfTwoStrategies(t *testing.T) {
	// Strategy 0 is predicted three times where 1 is gold, 1 once where 0 is:
	// the Bradley-Terry odds are 3, the preferences 1.5 and 0.5.
	gold := []int{1, 1, 1, 0, 0, 1}
	predicted := []int{0, 0, 0, 1, 0, 1}
	r, err := Strategy(gold, predicted, 2)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "preference of 0", r.Preference[0], 1.5)
	near(t, "preference of 1", r.Preference[1], 0.5)
	near(t, "bias", r.PreferenceBias, 0.5)
	if want := [][]int{{1, 3}, {1, 1}}; !reflect.DeepEqual(r.Confusion, want) {
		t.Errorf("confusion %v, want %v", r.Confusion, want)
	}
	// F1 is 2·1/(2+4) and 2·1/(4+2).
	near(t, "macro F1", r.MacroF1, 100.0/3)
	near(t, "weighted F1", r.WeightedF1, 100.0/3)
}

func TestStrategyWhereTheFormulaFails(t *testing.T) {
	perfect, err := Strategy([]int{0, 1, 2, 2}, []int{0, 1, 2, 2}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if perfect.BiasDefined || perfect.Note == "" {
		t.Errorf("perfect predictions have no defined bias: %+v", perfect)
	}
	near(t, "bias of perfect predictions", perfect.PreferenceBias, 0)
	near(t, "their macro F1", perfect.MacroF1, 100)

	// The more often one strategy is always predicted, the larger the bias, up
	// to sqrt(7) for eight strategies.
	var last float64
	for _, repeat := range []int{1, 10, 100} {
		var gold, predicted []int
		for i := range 8 * repeat {
			gold, predicted = append(gold, i%8), append(predicted, 0)
		}
		r, err := Strategy(gold, predicted, 8)
		if err != nil {
			t.Fatal(err)
		}
		if r.BiasDefined || r.PreferenceBias <= last || r.PreferenceBias >= math.Sqrt(7) {
			t.Errorf("%d rounds of one strategy: bias %v, defined %v", repeat, r.PreferenceBias, r.BiasDefined)
		}
		last = r.PreferenceBias
	}

	none, err := Strategy([]int{0, 1}, []int{Unparsed, Unparsed}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if none.BiasDefined || none.Dropped != 2 || none.DroppedPercent != 100 || none.WeightedF1 != 0 {
		t.Errorf("unparsed predictions only: %+v", none)
	}
}

func TestStrategyRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		gold, predicted []int
		classes         int
	}{
		"different lengths":    {[]int{0}, nil, 8},
		"gold out of range":    {[]int{8}, []int{0}, 8},
		"gold unparsed":        {[]int{-1}, []int{0}, 8},
		"prediction too large": {[]int{0}, []int{8}, 8},
		"no classes":           {nil, nil, 0},
	} {
		if _, err := Strategy(c.gold, c.predicted, c.classes); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func parseLetter(s string) (int, error) {
	if i := strings.Index("ab", s); len(s) == 1 && i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("unknown strategy %q", s)
}

// readPredictions reads all predictions of a text.
func readPredictions(text string, parse Parser) (all []Prediction, _ error) {
	for p, err := range Predictions(strings.NewReader(text), "p.jsonl", parse) {
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func TestReadPredictions(t *testing.T) {
	in := "\ufeff" + `{"gold_strategy":"a","gold_response":"g","strategy":"b","response":"r","dialogue":7,"turn":3,"more":[1]}

{"gold_strategy":"b","gold_response":"g","strategy":"nonsense","response":"","dialogue":"x"}
{"gold_strategy":"b","gold_response":"g","strategy":null,"response":"r"}`
	got, err := readPredictions(in, Parser{Strategy: parseLetter})
	if err != nil {
		t.Fatal(err)
	}
	want := []Prediction{
		{Dialogue: "7", Turn: 3, GoldStrategy: 0, Strategy: 1, GoldResponse: "g", Response: "r"},
		{Dialogue: "x", GoldStrategy: 1, Strategy: Unparsed, GoldResponse: "g"},
		{GoldStrategy: 1, Strategy: Unparsed, GoldResponse: "g", Response: "r"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReadPredictionsRefuses(t *testing.T) {
	good := `{"gold_strategy":"a","gold_response":"g","strategy":"b","response":"r"}` + "\n"
	for name, c := range map[string]struct{ in, want string }{
		"no lines":                       {"", "p.jsonl: metrics: no samples"},
		"not JSON":                       {good + "{", "p.jsonl:2: not a JSON object"},
		"an array":                       {"[]", "p.jsonl:1: not a JSON object"},
		"missing key":                    {good + `{"gold_strategy":"a","gold_response":"g","response":"r"}`, `p.jsonl:2: "strategy" is missing`},
		"null response":                  {`{"gold_strategy":"a","gold_response":"g","strategy":"b","response":null}`, `p.jsonl:1: "response" is null`},
		"wrong type":                     {`{"gold_strategy":"a","gold_response":3,"strategy":"b","response":"r"}`, `p.jsonl:1: "gold_response"`},
		"gold strategy":                  {"\n" + strings.Replace(good, `"a"`, `"z"`, 1), `p.jsonl:2: "gold_strategy": unknown strategy "z"`},
		"enormous line":                  {good + `{"x":"` + strings.Repeat("y", MaxLine), "p.jsonl:2: the line is longer than"},
		"Latin-1":                        {good + strings.Replace(good, `"r"`, "\"caf\xe9\"", 1), "p.jsonl:2: not UTF-8 text"},
		"a cut rune":                     {strings.Replace(good, `"g"`, "\"\xe2\x82\"", 1), "p.jsonl:1: not UTF-8 text"},
		"a raw surrogate":                {strings.Replace(good, `"g"`, "\"\xed\xa0\x80\"", 1), "p.jsonl:1: not UTF-8 text"},
		"Windows-1252 in an ignored key": {good + "\r\n" + strings.Replace(good, "{", "{\"note\":\"\x93hi\x94\",", 1), "p.jsonl:3: not UTF-8 text"},
		"UTF-16":                         {"\xff\xfe{\x00\"\x00", "p.jsonl:1: not UTF-8 text"},
		"turn no number":                 {strings.Replace(good, "{", `{"turn":"x",`, 1), `p.jsonl:1: "turn"`},
	} {
		_, err := readPredictions(c.in, Parser{Strategy: parseLetter})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q…", name, err, c.want)
		}
	}
}

// LLaMA-Factory's lines are whole answers; bad lines are told all at once, up to a bound.
func TestReadPredictionsOfOthers(t *testing.T) {
	answer := func(text string) (int, string) {
		name, rest, ok := strings.Cut(text, ":")
		if s, err := parseLetter(name); ok && err == nil {
			return s, rest
		}
		return Unparsed, text
	}
	parser := Parser{Strategy: parseLetter, Answer: answer}
	got, err := readPredictions(`{"prompt":"p","predict":"b:hi","label":"a:hello"}`+"\n"+`{"predict":"hi","label":"b:hello"}`, parser)
	want := []Prediction{{GoldStrategy: 0, Strategy: 1, GoldResponse: "hello", Response: "hi"}, {GoldStrategy: 1, Strategy: Unparsed, GoldResponse: "hello", Response: "hi"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	_, err = readPredictions(strings.Repeat(`{"predict":"hi","label":"hello"}`+"\n", 25), parser)
	if err == nil || strings.Count(err.Error(), `"label" names no known strategy`) != maxFaults || !strings.HasSuffix(err.Error(), "p.jsonl: and 5 more bad lines of 25") {
		t.Errorf("25 bad lines: %v; want %d of them and that there are 5 more", err, maxFaults)
	}
}

func average(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func TestBootstrapCoversTheMeansError(t *testing.T) {
	// 200 groups of one item with variance 1/12: the standard error of the mean
	// is 0.0204, the interval's half width about 0.040.
	groups := make([][]float64, 200)
	for i := range groups {
		groups[i] = []float64{(float64(i) + 0.5) / 200}
	}
	got, err := Bootstrap(t.Context(), groups, average, 4000, 1)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "estimate", got.Estimate, 0.5)
	for _, half := range []float64{0.5 - got.Low, got.High - 0.5} {
		if half < 0.035 || half > 0.045 {
			t.Errorf("half width %v, want about 0.040", half)
		}
	}
	again, err := Bootstrap(t.Context(), groups, average, 4000, 1)
	if err != nil || again != got {
		t.Errorf("same seed: %+v and %+v (%v)", got, again, err)
	}
	other, err := Bootstrap(t.Context(), groups, average, 4000, 2)
	if err != nil || other == got {
		t.Errorf("another seed gives the same interval %+v (%v)", other, err)
	}
}

func TestBootstrapResamplesWholeGroups(t *testing.T) {
	groups := [][]float64{{1, 1}, {2, 2, 2}, {3}}
	_, err := Bootstrap(t.Context(), groups, func(items []float64) float64 {
		n := map[float64]int{}
		for _, v := range items {
			n[v]++
		}
		if n[1]%2 != 0 || n[2]%3 != 0 || n[1]/2+n[2]/3+n[3] != 3 {
			t.Errorf("drew %v: not three whole groups", items)
		}
		return 0
	}, 50, 3)
	if err != nil {
		t.Fatal(err)
	}
}

func TestBootstrapRefuses(t *testing.T) {
	if _, err := Bootstrap(t.Context(), nil, average, 10, 1); !errors.Is(err, ErrNoSamples) {
		t.Errorf("no groups: %v", err)
	}
	if _, err := Bootstrap(t.Context(), [][]float64{{1}}, average, 0, 1); err == nil {
		t.Error("no resamples: no error")
	}
	undefined := func([]float64) float64 { return math.NaN() }
	if _, err := Bootstrap(t.Context(), [][]float64{{1}}, undefined, 5, 1); err == nil {
		t.Error("undefined statistic: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bootstrap(ctx, [][]float64{{1}}, average, 5, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Sparse random tables, as small test sets give them: the preferences stay
// finite with mean 1, and where they are called defined they solve equation 7.
func TestPreferenceOfRandomTables(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	defined := 0
	for trial := range 2000 {
		n := 5 + rng.IntN(150)
		gold, predicted := make([]int, n), make([]int, n)
		for i := range gold {
			gold[i], predicted[i] = rng.IntN(8), rng.IntN(1+rng.IntN(8))
		}
		r, err := Strategy(gold, predicted, 8)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, p := range r.Preference {
			sum += p
		}
		if !(math.Abs(sum-8) < 1e-9) || r.BiasDefined != (r.Note == "") {
			t.Fatalf("trial %d: sum of preferences %v, %+v", trial, sum, r)
		}
		if !r.BiasDefined {
			continue
		}
		defined++
		for i, p := range r.Preference {
			above, below := 0.0, 0.0
			for j, q := range r.Preference {
				if i != j {
					above += float64(r.Confusion[i][j]) * q / (p + q)
					below += float64(r.Confusion[j][i]) / (p + q)
				}
			}
			if math.Abs(p-above/below) > 1e-7 {
				t.Fatalf("trial %d: p_%d = %v does not solve equation 7 (%v)", trial, i, p, above/below)
			}
		}
	}
	if defined < 500 {
		t.Errorf("only %d of 2000 tables had a solution: the test has lost its point", defined)
	}
}
