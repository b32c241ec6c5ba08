package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

const hostile = `<script>alert("x")</script>`

// example is a run of a tiny backbone with a few systems, hostile names and
// absent values.
func example() Data {
	columns := func(v ...float64) Columns {
		var c Columns
		for i := range c {
			if i < len(v) && !math.IsNaN(v[i]) {
				c[i] = Value(v[i])
			}
		}
		return c
	}
	no := math.NaN()
	return Data{
		Run: Run{
			Experiment: "demo " + hostile, Backbone: "tiny-llama", Engine: "go", Seed: 17, Revision: "abc123",
			Judge: Judge{Name: "offline-1", Offline: true, Samples: 100}, Temperature: Value(0.7),
		},
		Systems: []Row{
			{
				Paradigm: experiments.Vanilla, Method: experiments.MethodBase,
				Columns: columns(40, 5, 6, 7, no, no, no, no, 2.25, 3, 4), Turns: 50, Unparsed: 12,
				BiasNote:   "equation 7 has no solution",
				Strategies: [8]int{38},
			},
			{
				Paradigm: experiments.Vanilla, Method: experiments.MethodSFT,
				Columns: columns(91.234, 10, 11, 12, 3.5, 2.5, 1.5, 0.5, 0.5, 20, 16), Turns: 50,
				Strategies: [8]int{10, 5, 5, 5, 10, 5, 5, 5}, Preference: []float64{1.5, 0.5, 1, 1, 1, 1, 1, 1},
				Errors:       &Errors{Judged: 40, Clean: 10, Classes: [5]int{20, 10, 4, 2, 0}, Clearest: [5]int{18, 8, 3, 1, 0}, Unlike: 30},
				Phases:       esc.Phases{{4, 0, 0, 0, 0, 0, 0, 0}},
				Intervals:    []Interval{{"bleu_1", 9.5, 10.5}},
				Chosen:       &Chosen{Accuracy: 0.25, Floor: 0.1, FloorHigh: 0.15, All: StrategyNumbers{0.4, 18, 14}},
				Temperatures: []AtTemperature{{0, StrategyNumbers{0.9, 22, 12}}, {1, StrategyNumbers{0.2, 19, 15}}}, Mass: 0.875,
			},
			{
				Paradigm: experiments.Vanilla, Method: experiments.MethodDPO, Pairs: esc.PairsNsNr,
				Columns: columns(99, 99, 99, 99), Turns: 50,
			},
			{
				Paradigm: experiments.Vanilla, Method: experiments.MethodDPO, Pairs: esc.PairsAll,
				Columns: columns(90, 10, 11.5, 12, 3.6, 2.5, 1.5, 0.5, 0.4, 21, 15), Turns: 50,
			},
			{
				Paradigm: experiments.Decoupled, Method: experiments.MethodSFT,
				Columns: columns(89, 10.001, 13, 12.5, 3.5, 2.5, 1.5, 0.5, 0.3, 22, 17), Turns: 50,
			},
		},
		Anchors: []Row{
			{Paradigm: experiments.Anchor, Method: experiments.MethodGold, Columns: columns(96, 100, 100, 100, 4, 3, 3, 2), Turns: 50,
				Errors: &Errors{Judged: 40, Clean: 39, Classes: [5]int{1}, Clearest: [5]int{1}}, Intervals: []Interval{{"empathy", 2.9, 3.1}}},
			{Paradigm: experiments.Anchor, Method: experiments.MethodShuffled, Columns: columns(96, 9, 9, 9, 4, 2, 2, 2), Turns: 50},
			{Paradigm: experiments.Anchor, Method: experiments.MethodTFIDF, Columns: columns(no, no, no, no, no, no, no, no, 0.7, 29, 22), Turns: 50},
		},
		Checks: []Effect{
			{Contrast: Contrast{"anchor/gold", "anchor/shuffled", MeasureQuality}, Difference: Value(0.5), Low: Value(0.4), High: Value(0.6), P: Value(0.001), Dialogues: 8, Turns: 40},
			{Contrast: Contrast{"anchor/gold", "anchor/canned", MeasureQuality}, Difference: Value(0.3), Low: Value(0.01), High: Value(0.6), P: Value(0.001), Dialogues: 8, Turns: 40},
		},
		Questions: []Question{{Name: "RQ1", Text: "Better? " + hostile, Effects: []Effect{
			{Contrast: Contrast{"vanilla/dpo", "vanilla/sft", MeasureBias},
				Difference: Value(-0.1), Low: Value(-0.15), High: Value(-0.05), P: Value(0.001), Dialogues: 9, Turns: 50},
			{Contrast: Contrast{"vanilla/dpo", "vanilla/sft", MeasureQuality},
				Difference: Value(0.025), Low: Value(-0.1), High: Value(0.15), P: Value(0.4), Dialogues: 8, Turns: 40},
		}}},
		GoldStrategies: [8]int{8, 8, 8, 8, 8, 8, 1, 1},
		GoldPhases:     esc.Phases{{1, 0, 0, 0, 0, 0, 0, 3}},
		Given:          []Row{{Paradigm: experiments.Gold, Method: experiments.MethodSFT, Columns: columns(no, no, no, no, 3, 2.5, 2, 1)}},
		Wins: []Wins{{By: "offline-1", Systems: [2]string{"decoupled/dpo " + hostile, "vanilla/dpo"}, Samples: 40, Notes: []string{hostile},
			Questions: []Win{{Question: "reply as a whole " + hostile, Answers: 40, Win: &Share{0.5, 0.4, 0.6}, Tie: &Share{0.2, 0.1, 0.3}, Loss: &Share{0.3, 0.2, 0.4}}}}},
		Quality: []Quality{{Role: esc.RG, Judge: "offline-1", Samples: 50, Chosen: Scores{3.5, 3, 2.5, 2}, Rejected: Scores{3, 2.5, 2, 0}}},
		Preference: []DPO{{Stage: "dpo/vm/all", Role: esc.VM, Pairs: esc.PairsAll, Loss: experiments.LossDPO,
			LearningRate: 2e-4, Beta: 0.2, Epochs: 1, BatchSize: 32}},
		Corpus: []Split{{Name: "train", Statistics: esc.Statistics{Dialogues: 16, Utterances: 320, Strategies: [8]int{1, 2, 3, 4, 5, 6, 7, 8}}, Phases: esc.Phases{{1}, {}, {2, 1}}}},
		Pairs: []Pairs{{Role: esc.VM, Gold: [8]int{30, 30}, Rejected: [8]int{60}, Mined: esc.Mined{Candidates: 90, Pairs: 60,
			PerError: map[esc.PsyError]int{esc.LackOfEmpathy: 21}, PerKind: map[esc.Kind]int{esc.PsNr: 33},
			CharsChosen: 101.5, CharsRejected: 77.25}}},
		Training: []Training{{Stage: "dpo/vm", Kind: "dpo", Steps: 40, Tokens: 123456, Loss: Value(0.6543), Accuracy: Value(0.75),
			Moved: &Movement{Chosen: -1.25, Rejected: -3, Noise: 0.5, Warning: "both sides fall " + hostile},
			Curve: []Point{{Step: 10, Loss: Value(0.69)}, {Step: 20, Loss: Value(math.Inf(1))}, {Step: 40, Loss: Value(0.65), Validation: Value(0.66)}}}},
		Samples: []Sample{{
			Dialogue: 3, Turn: 2,
			Context:  []esc.Message{{Role: "user", Content: "I am | sad " + hostile}},
			Strategy: esc.Question, Response: "Why?",
			Replies: []Reply{{System: "vanilla/base", Strategy: esc.NoStrategy, Response: hostile, Errors: []esc.PsyError{esc.TemplateResponse}}},
		}},
		Provenance: []Stage{{Name: "corpus", Kind: "corpus", Fingerprint: "f00d", Digest: "beef"},
			{Name: "bias/vanilla/sft", Kind: "bias", Fingerprint: "f11d", Digest: "0123456789abcdef", Inputs: map[string]string{"generate": "fedcba9876543210"}}},
		Notes: []string{"Tiny models " + hostile + " show little."},
	}
}

func rendered(t *testing.T, write func(io.Writer, Data) error, d Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPaperIsThePapers(t *testing.T) {
	p, err := loadPaper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "shared", "paper", "tables.json")
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("reference data %s is absent: put the project's shared data beside the repository to run this test", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Table1 struct {
			ESConv struct {
				Dialogues, Utterances int
				Turns                 float64            `json:"avg_turns"`
				Chars                 map[string]float64 `json:"avg_chars"`
			} `json:"esconv"`
			Pairs map[string]map[string]float64 `json:"ipm_prefdial"`
		} `json:"table1_datasets"`
		Table2 map[string]json.RawMessage     `json:"table2_data_quality"`
		Table4 map[string]json.RawMessage     `json:"table4_response_generator_given_gold_strategy"`
		Table6 map[string]int                 `json:"table6_esconv_strategies"`
		Table7 map[string]map[string]paperDPO `json:"table7_dpo_hyperparameters"`
		Table3 map[string]json.RawMessage     `json:"table3_main"`
		Table5 map[string]json.RawMessage     `json:"table5_coupled_preference_data"`
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Backbones {
		var table3, table5 map[string][]float64
		if err := json.Unmarshal(want.Table3[strings.ToLower(b.Name)], &table3); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(want.Table5[strings.ToLower(b.Name)], &table5); err != nil {
			t.Fatal(err)
		}
		got3, got5 := map[string][]float64{}, map[string][]float64{}
		for _, r := range b.Table3 {
			got3[string(r.Paradigm)+"/"+string(r.Method)] = r.Values
		}
		for _, r := range b.Table5 {
			got5[string(r.Pairs)] = r.Values
		}
		if diff := cmp.Diff(table3, got3); diff != "" {
			t.Errorf("%s, Table 3 (-paper +ours):\n%s", b.Name, diff)
		}
		if diff := cmp.Diff(table5, got5); diff != "" {
			t.Errorf("%s, Table 5 (-paper +ours):\n%s", b.Name, diff)
		}
		short, _, _ := strings.Cut(strings.ToLower(b.Name), "2.5-")
		short, _, _ = strings.Cut(short, "3.1-") // qwen, llama
		printed := func(row string) float64 { return want.Table1.Pairs[row][short] }
		if got := (paperPairs{int(printed("strategy_pairs")), int(printed("response_pairs")), printed("avg_chars_chosen"), printed("avg_chars_rejected"),
			int(printed("lack_of_empathy")), int(printed("early_emotion_shift")), int(printed("template_response"))}); got != b.Pairs {
			t.Errorf("%s, Table 1: paper %+v, ours %+v", b.Name, got, b.Pairs)
		}
		quality, given := b.Quality, b.Given
		quality.Chosen, quality.Rejected, given = [4]float64{}, [4]float64{}, nil
		if err := errors.Join(json.Unmarshal(want.Table2[short], &quality), json.Unmarshal(want.Table4[strings.ToLower(b.Name)], &given)); err != nil {
			t.Fatal(err)
		}
		if quality != b.Quality || !maps.Equal(given, b.Given) {
			t.Errorf("%s: Table 2 %v, ours %v; Table 4 %v, ours %v", b.Name, quality, b.Quality, given, b.Given)
		}
		for name, role := range map[string]esc.Role{"vanilla": esc.VM, "strategy_planner": esc.SP, "response_generator": esc.RG} {
			if got := want.Table7[strings.ToLower(b.Name)][name]; got != b.DPO[role] || got.Beta == 0 {
				t.Errorf("%s, Table 7, %s: paper %v, ours %v", b.Name, name, got, b.DPO[role])
			}
		}
	}
	for _, s := range esc.Strategies() {
		if got := want.Table6[s.String()]; got != p.Corpus.Strategies[s] {
			t.Errorf("Table 6, %s: paper %d, ours %d", s, got, p.Corpus.Strategies[s])
		}
	}
	if e := want.Table1.ESConv; e.Dialogues != p.Corpus.Dialogues || e.Utterances != p.Corpus.Utterances || e.Turns != p.Corpus.AvgTurns || e.Chars["assistant"] != p.Corpus.AvgCharsAssistant {
		t.Errorf("Table 1: paper %+v, ours %+v", e, p.Corpus)
	}
}

// TestFailedESConv: the bar of Figure 2 is the count of the authors' labels.
func TestFailedESConv(t *testing.T) {
	p, err := loadPaper()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "shared", "failed-esconv", "labels.json")
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("reference data %s is absent: put the project's shared data beside the repository to run this test", path)
	}
	var labels []struct {
		Type string `json:"Error Type"`
	}
	if err = errors.Join(err, json.Unmarshal(raw, &labels)); err != nil {
		t.Fatal(err)
	}
	got := Errors{Judged: len(labels)}
	for _, l := range labels {
		switch l.Type {
		case "Mismatched Strategy":
			got.Clearest[esc.StrategyMismatch]++
		case "Lack of Empathetic Content":
			got.Clearest[esc.LackOfEmpathy]++
		case "Premature Emotional Transition":
			got.Clearest[esc.EarlyEmotionShift]++
		case "Repetitive or Template-like Response":
			got.Clearest[esc.TemplateResponse]++
		case "Emotional Misunderstanding":
			got.Clearest[esc.EmotionMisread]++
		default:
			got.Clean++
		}
	}
	if got != p.FailedESConv {
		t.Errorf("labels %+v, ours %+v", got, p.FailedESConv)
	}
}

func TestComparedBackbone(t *testing.T) {
	p, err := loadPaper()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		backbone string
		same     bool
	}{
		"Qwen2.5-7B-Instruct":              {"Qwen2.5-7B-Instruct", true},
		"qwen2.5-7b":                       {"Qwen2.5-7B-Instruct", true},
		"meta-llama/Llama-3.1-8B-Instruct": {"Llama3.1-8B-Instruct", true},
		"llama3.1-8b":                      {"Llama3.1-8B-Instruct", true},
		"tiny-llama":                       {"Qwen2.5-7B-Instruct", false},
		"":                                 {"Qwen2.5-7B-Instruct", false},
	} {
		if b, same := p.compared(name); b.Name != want.backbone || same != want.same {
			t.Errorf("compared(%q) = %s, %v", name, b.Name, same)
		}
	}
}

func TestResultsTable(t *testing.T) {
	d, err := example().prepared()
	if err != nil {
		t.Fatal(err)
	}
	p, err := loadPaper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := resultsSection(d, p)
	if err != nil {
		t.Fatal(err)
	}
	main := s.Tables[0]
	var heads []string
	for _, h := range main.Heads {
		heads = append(heads, h.Text)
	}
	if want := []string{"Backbone", "Paradigm", "Method", "D-1", "B-1", "F1", "R-L", "Flu.", "Pro.", "Emp.", "Hel.", "B ↓", "Qw ↑", "Q ↑"}; !reflect.DeepEqual(heads, want) {
		t.Errorf("heads %q, want %q", heads, want)
	}
	if want := []group{{"", 3}, {"Automatic metrics ↑", 4}, {"Judge's metrics ↑ (⚠ offline judge)", 4}, {"Strategy metrics", 3}}; !reflect.DeepEqual(main.Groups, want) {
		t.Errorf("groups %+v, want %+v", main.Groups, want)
	}
	if len(main.Rows) != 4+3 {
		t.Fatalf("%d rows, want 4 systems and 3 anchors: the pair set nsnr belongs to Table 5", len(main.Rows))
	}
	// mark shows a cell as text with ** for the best and _ for the second.
	mark := func(c cell) string {
		switch {
		case c.Best:
			return "**" + c.Text
		case c.Second:
			return "_" + c.Text
		}
		return c.Text
	}
	column := func(i int) []string {
		var out []string
		for _, r := range main.Rows {
			out = append(out, mark(r[i]))
		}
		return out
	}
	for i, want := range map[int][]string{
		0:  {"tiny-llama", "tiny-llama", "tiny-llama", "tiny-llama", "Anchors", "Anchors", "Anchors"},
		2:  {"Base", "SFT", "DPO", "SFT", "Gold replies", "Gold replies, shuffled", "TF-IDF planner"},
		3:  {"40.00", "**91.23", "_90.00", "89.00", "96.00", "96.00", "–"},    // anchors have no rank
		4:  {"_5.00", "**10.00", "**10.00", "**10.00", "100.00", "9.00", "–"}, // 10.001 is shown as 10.00
		7:  {"–", "_3.50", "**3.60", "_3.50", "4.00", "4.00", "–"},
		8:  {"–", "2.50", "2.50", "2.50", "3.00", "2.00", "–"}, // all equal: no mark
		11: {"2.25", "0.50", "_0.40", "**0.30", "–", "–", "0.70"},
		13: {"4.00", "_16.00", "15.00", "**17.00", "–", "–", "22.00"},
	} {
		if got := column(i); !reflect.DeepEqual(got, want) {
			t.Errorf("column %s: %q, want %q", main.Heads[i].Text, got, want)
		}
	}
	// The paper's Qwen figures stand in the same cells.
	for _, c := range []struct {
		row, col int
		want     string
	}{{0, 3, "93.50"}, {1, 4, "15.61"}, {2, 11, "0.30"}, {3, 13, "21.37"}} {
		if got := main.Rows[c.row][c.col].Paper; got != c.want {
			t.Errorf("row %d, %s: paper's figure %q, want %s", c.row, main.Heads[c.col].Text, got, c.want)
		}
	}
	if r := main.Rows; r[0][0].Rows != 4 || !r[3][0].Covered || r[0][1].Rows != 3 || r[3][1].Covered {
		t.Errorf("merged cells: backbone over %d rows, vanilla over %d", r[0][0].Rows, r[0][1].Rows)
	}
	notes := strings.Join(append(main.PaperNotes, main.Notes...), "\n")
	for _, want := range []string{"no tiny-llama", "equation 7 has no solution", "12 of 50 replies"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes lack %q:\n%s", want, notes)
		}
	}
	if iv := s.Tables[1]; len(iv.Rows) != 2 || iv.Rows[0][1].Text != "9.50 … 10.50" || iv.Rows[1][2].Text != "2.90 … 3.10" {
		t.Errorf("intervals %+v", iv.Rows)
	}

	v, err := variantsSection(d, p)
	if err != nil {
		t.Fatal(err)
	}
	if rows := v.Tables[0].Rows; len(rows) != 2 || rows[0][2].Text != "DPO (nsnr)" || rows[0][3].Paper != "89.38" {
		t.Errorf("Table 5: %+v", rows)
	}
}

func TestStatisticsTables(t *testing.T) {
	md := rendered(t, Markdown, example())
	for _, want := range []string{
		"| gold | 16.0 % | 16.0 % | 16.0 % | 16.0 % | 16.0 % | 16.0 % | 2.0 % | 2.0 % |",
		"| vanilla/sft | 1.50 | 0.50 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 0.50 |",
		"| System | Judged | Strategy Mismatch, by the judge | Lack of Empathy | Early Emotion Shift | Template Response | Emotion Misread | No error | Strategy unlike gold |",
		"| vanilla/sft | 40 | 50.0 % | 25.0 % | 10.0 % | 5.0 % | 0.0 % | 25.0 % | 75.0 % |",
		"| coupled pairs (vm) | 90 | 60 | 33 | 0 | 0 | 0 | 21 | 0 | 0 | 0 | 101.50 | 77.25 |",
		"| Restatement or Paraphrasing (RP) | 2<br><sub>857 (−855)</sub> | 5.56 %<br><sub>5.81 % (−0.25)</sub> |",
		"| Overall | 36<br><sub>14763 (−14727)</sub> | 100.00 %<br><sub>100.00 % (0.00)</sub> |",
		"| dpo/vm | dpo | 40 | 123456 | 0.6543 | – | 75.0 % | – |",
		"| corpus | `f00d` | `beef` | – | – |",
		"| bias/vanilla/sft | `f11d` | `0123456789abcdef` | generate fedcba987654 | – |",
		"<summary>from 1 artifact</summary>\n\nbias/vanilla/sft `0123456789ab`",
		"| SFT | 3.00 | 2.50 |",
		"| improvement |  | 16.7 % | 20.0 % | 25.0 % | – |",
		"| dpo/vm/all | Vanilla-DPO (vm) | all | dpo | 0.0002<br><sub>7e-07</sub> | 0.2<br><sub>0.2</sub> | 1 | 32 |",
		"| FailedESConv | 2317 | 33.0 % | 28.4 % | 14.4 % | 8.4 % | 5.0 % | 10.9 % |",
		"| vanilla/sft | 40 | 45.0 % | 20.0 % | 7.5 % | 2.5 % | 0.0 % | 25.0 % |",
		"| vanilla/sft | 75.0 % | – | – | – | – | 24.0 % |",
		"| 40 | 50.0 \\[40.0, 60.0\\] | 20.0 \\[10.0, 30.0\\] | 30.0 \\[20.0, 40.0\\] |",
		"| Llama3.1-8B-Instruct | Vanilla | Base | **95.09** |",
		"- Judge: offline-1 ⚠ offline judge, 100 replies of each system",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no line %q in\n%s", want, md)
		}
	}
}

// The paper's figures of the judge's measures stand beside those of a judge that
// was asked by the paper's protocol, and of no other.
func TestJudgeProtocols(t *testing.T) {
	besides := []string{ // Tables 3, 4 and 2
		"<br><sub>3.30 (+0.20)</sub>", "<br><sub>2.61 (−0.11)</sub>",
		"| SFT | 3.00<br><sub>3.66 (−0.66)</sub> | 2.50<br><sub>3.02 (−0.52)</sub> |",
		"| improvement |  | 16.7 %<br><sub>4.7 % (+12.0)</sub> | 20.0 %<br><sub>13.9 % (+6.1)</sub> | 25.0 %<br><sub>32.8 % (−7.8)</sub> | –<br><sub>27.2 %</sub> |",
	}
	for protocol, fact := range map[experiments.Protocol]string{
		experiments.ProtocolPaper: "- Judge: m, protocol paper",
		experiments.ProtocolJoint: "- Judge: m, protocol joint",
		"":                        "- Judge: m ⚠ offline judge",
	} {
		d := example()
		d.Run.Judge = Judge{Name: "m", Protocol: protocol, Offline: protocol == ""}
		md := rendered(t, Markdown, d)
		like := protocol == experiments.ProtocolPaper
		for _, figure := range besides {
			if strings.Contains(md, figure) != like {
				t.Errorf("protocol %q: a line has %q: %v, want %v", protocol, figure, !like, like)
			}
		}
		if !strings.Contains(md, fact) {
			t.Errorf("protocol %q: no line %q", protocol, fact)
		}
		if says := strings.Contains(md, "figures are not beside the judge's"); says == like {
			t.Errorf("protocol %q: it says that the paper's figures are not there: %v", protocol, says)
		}
		if !strings.Contains(md, "0.50<br><sub>0.31 (+0.19)</sub>") {
			t.Errorf("protocol %q: the paper's preference bias is not beside the run's", protocol)
		}
	}
}

func TestMarkdownIsInert(t *testing.T) {
	md := rendered(t, Markdown, example())
	if strings.Contains(md, "<script") {
		t.Error("text of the data is markup")
	}
	if want := "I am \\| sad &lt;script&gt;"; !strings.Contains(md, want) {
		t.Errorf("no %q", want)
	}
	// Every row of a table has as many cells as its head.
	cells := 0
	for line := range strings.Lines(md) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if cells != 0 && n != cells {
			t.Errorf("%d cells, the head has %d: %s", n, cells, line)
		}
		cells = n
	}
}

func TestCSV(t *testing.T) {
	d := example()
	d.Run.Backbone = `tiny, "llama"`
	lines, err := csv.NewReader(strings.NewReader(rendered(t, CSV, d))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1+5+3+2*(9+4) {
		t.Fatalf("%d lines, want a head, 5 systems, 3 anchors, and 9 and 4 rows of each of the paper's backbones", len(lines))
	}
	if want := strings.Fields("source backbone paradigm method pairs distinct_1 bleu_1 f1 rouge_l fluency professionalism empathy helpfulness preference_bias weighted_f1 macro_f1"); !reflect.DeepEqual(lines[0][:16], want) || len(lines[0]) != 38 || lines[0][18] != "bleu_1_low" || lines[0][19] != "bleu_1_high" {
		t.Errorf("header %q", lines[0])
	}
	if want := []string{"run", `tiny, "llama"`, "vanilla", "sft", "", "91.234", "10", "11", "12", "3.5", "2.5", "1.5", "0.5", "0.5", "20", "16", "", "", "9.5", "10.5"}; !reflect.DeepEqual(lines[2][:20], want) {
		t.Errorf("line %q, want %q", lines[2], want)
	}
	if lines[1][9] != "" || lines[1][13] != "2.25" {
		t.Errorf("absent values: %q", lines[1])
	}
	if want := "anchor,,anchor,gold,,96,100"; !strings.HasPrefix(strings.Join(lines[6], ","), want) {
		t.Errorf("line %q, want %q…", lines[6], want)
	}
	if want := "paper,Qwen2.5-7B-Instruct,vanilla,base,,93.5,9.75"; !strings.HasPrefix(strings.Join(lines[9], ","), want) {
		t.Errorf("line %q, want %q…", lines[9], want)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	first := rendered(t, JSON, example())
	d, err := Read(strings.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if second := rendered(t, JSON, d); first != second {
		t.Errorf("read back and written again (-first +second):\n%s", cmp.Diff(first, second))
	}
	if got := *d.Systems[1].Columns.Of("distinct_1"); got != 91.234 {
		t.Errorf("distinct-1 %v", got)
	}
	if d.Training[0].Curve[1].Loss != nil {
		t.Error("an infinite loss was kept")
	}
	if _, err := Read(strings.NewReader(`{"surprise": 1}`)); err == nil {
		t.Error("an unknown field is no error")
	}
}

func TestFilesAreDeterministic(t *testing.T) {
	first, err := Files(example())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := Files(example())
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range again {
			if f.Name != first[i].Name || !bytes.Equal(f.Data, first[i].Data) {
				t.Errorf("%s differs between two renderings", f.Name)
			}
		}
	}
}

func TestReportOfAlmostNothing(t *testing.T) {
	if _, err := Files(Data{Run: Run{Experiment: "empty"}}); err != nil {
		t.Errorf("a run without results: %v", err)
	}
	// A system with no figures at all, no steps, no replies.
	if _, err := Files(Data{Run: Run{Experiment: "bare"}, Systems: []Row{{Paradigm: "new", Method: "other"}},
		Training: []Training{{Stage: "sft/vm"}}, Samples: []Sample{{Strategy: esc.NoStrategy}}, Pairs: []Pairs{{}}}); err != nil {
		t.Errorf("a bare system: %v", err)
	}
}

func TestReportRefuses(t *testing.T) {
	twice := example()
	twice.Systems = append(twice.Systems, twice.Systems[0])
	short := example()
	short.Systems[1].Preference = []float64{1}
	for name, d := range map[string]Data{"no name": {}, "a system twice": twice, "one preference": short} {
		if _, err := Files(d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRoundTicks(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      string
	}{
		{0, 29.2, "0 5 10 15 20 25"},
		{0, 2.4, "0.0 0.5 1.0 1.5 2.0"},
		{0.645, 0.69, "0.65 0.66 0.67 0.68 0.69"},
		{10, 400, "100 200 300 400"},
		{0, 1, "0.0 0.2 0.4 0.6 0.8 1.0"},
		{3, 3, "3"},
	} {
		var labels []string
		for _, tick := range (roundTicks{}).Ticks(c.low, c.high) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("ticks of [%v, %v]: %s, want %s", c.low, c.high, got, c.want)
		}
	}
}

// TestMovementTable: a dpo stage's movement stands in nats beside the sampling noise, with what it warns of below.
func TestMovementTable(t *testing.T) {
	d := Data{Training: []Training{{Stage: "sft/vm", Kind: "sft"},
		{Stage: "dpo/vm/all", Kind: "dpo", Moved: &Movement{Chosen: -1.25, Rejected: -3, Noise: 0.5, Warning: "both sides fall"}}}}
	got := movementTable(d)
	if len(got.Rows) != 1 || strings.Join(got.Notes, "|") != "dpo/vm/all: both sides fall." {
		t.Fatalf("%d rows with the notes %q, want that of the dpo stage with its warning", len(got.Rows), got.Notes)
	}
	var texts []string
	for _, c := range got.Rows[0] {
		texts = append(texts, c.Text)
	}
	if want := "dpo/vm/all -1.25 -3 1.75 0.5"; strings.Join(texts, " ") != want {
		t.Errorf("the row is %q, want %q: change of chosen, of rejected, of their margin, and noise", strings.Join(texts, " "), want)
	}
}
