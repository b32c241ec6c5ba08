// Package report renders a run's results: one self-contained HTML file with
// SVG figures, Markdown, LaTeX, CSV and JSON, every table and figure of the
// paper's with the paper's numbers beside the run's. It is pure: typed data in,
// bytes out, the same bytes for the same data.
package report

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// Data is everything a report shows. Parts that are empty are left out, and the
// report says why. It holds no times and no paths: the same artifacts give the
// same report.
type Data struct {
	Run     Run   `json:"run"`
	Systems []Row `json:"systems"` // Table 3's rows, in its order
	Given   []Row `json:"given"`   // Table 4's: the generator given the gold strategy
	// Anchors are rows that are no system: gold replies, shuffled ones, a canned
	// one, and a planner by regression. They measure the measures.
	Anchors []Row   `json:"anchors"`
	Corpus  []Split `json:"corpus"` // Tables 1 and 6, Figure 8

	Headline  []Effect   `json:"headline"`  // of Headline, measured
	Questions []Question `json:"questions"` // RQ1-RQ4
	// Checks are the contrasts of JudgeChecks, as far as they were measured: what
	// the judge tells apart.
	Checks []Effect `json:"judge_checks"`
	// OtherJudges judge the same replies besides the run's own judge.
	OtherJudges []OtherJudge `json:"other_judges,omitempty"`
	Wins        []Wins       `json:"wins"` // Figure 6

	// GoldStrategies and GoldPhases count the gold strategies of the turns that
	// the systems reply to.
	GoldStrategies [esc.NumStrategies]int `json:"gold_strategies"`
	GoldPhases     esc.Phases             `json:"gold_phases"`

	Pairs      []Pairs    `json:"pairs"`      // Table 1, IPM half; Figures 9 and 10
	Quality    []Quality  `json:"quality"`    // Table 2
	Preference []DPO      `json:"preference"` // Table 7
	Training   []Training `json:"training"`   // in the order of the DAG
	Samples    []Sample   `json:"samples"`
	Provenance []Stage    `json:"provenance"` // in the order of the DAG
	Notes      []string   `json:"notes"`      // sentences for the head of the report
	// WithoutSamples says that whoever wrote the report left the samples out.
	WithoutSamples bool `json:"without_samples,omitempty"`
	// WithPaper asks for the paper's figures in the LaTeX tables.
	WithPaper bool `json:"with_paper,omitempty"`
	// About is what only the place where the report is written knows.
	About *About `json:"about,omitempty"`
	// Unfinished says how far the run is, in a report that is written while it goes on.
	Unfinished *Unfinished `json:"unfinished,omitempty"`
}

// Unfinished is how far a run is. Its page loads itself anew.
type Unfinished struct {
	Done   int `json:"done"`   // stages
	Stages int `json:"stages"` // of the run
	// Seconds is how often the page loads itself anew.
	Seconds int `json:"seconds"`
}

// About says how a run went. A report stage leaves it out: the same artifacts give
// the same report.
type About struct {
	Finished time.Time `json:"finished"` // its last stage
	// Seconds is the sum of the stages' wall times, and Hardware what they ran on.
	Seconds  float64  `json:"seconds"`
	Hardware []string `json:"hardware"`
	YAML     string   `json:"yaml,omitempty"` // of the experiment, where it is known
}

// Run says what was run.
type Run struct {
	Experiment string `json:"experiment"`
	Backbone   string `json:"backbone"`
	// Quantization says in which types a GGUF file kept the backbone's tensors,
	// "210 Q4_1, 61 F32"; empty for any other backbone.
	Quantization string `json:"quantization,omitempty"`
	Engine       string `json:"engine"`
	Seed         uint64 `json:"seed"`
	// Seeds are all seeds where there are several, Seed being the first; numbers
	// of systems are then means over them, counts are sums.
	Seeds    []uint64 `json:"seeds,omitempty"`
	Revision string   `json:"revision"` // of the programs that computed it; empty in a report stage's artifact
	Judge    Judge    `json:"judge"`
	// Temperature is the one that the replies were drawn at; 0: greedy, nil: unknown.
	Temperature *float64 `json:"temperature,omitempty"`
}

// Judge says who scored and labelled the replies.
type Judge struct {
	Name    string `json:"name"` // empty: nobody did
	Offline bool   `json:"offline"`
	// Protocol is the one by which a language model was asked; empty for the offline judge.
	Protocol experiments.Protocol `json:"protocol,omitempty"`
	Samples  int                  `json:"samples"` // judged replies of a system; 0: all
}

// likePaper says whether the judge was asked as the paper's was. The numbers of
// another protocol do not stand beside the paper's.
func (j Judge) likePaper() bool { return j.Protocol == experiments.ProtocolPaper }

// unlikePaper is why the paper's figures are not beside the judge's.
const unlikePaper = "The paper's figures are not beside the judge's: the paper asks a language model about one criterion at a time, with the gold reply " +
	"as reference (judge.protocol: paper), and this run's judge answers otherwise."

// Row is one system: how it replies and what it scores.
type Row struct {
	Backbone string               `json:"backbone"`
	Paradigm experiments.Paradigm `json:"paradigm"`
	Method   experiments.Method   `json:"method"`
	// Pairs is the pair set of a vanilla DPO (Table 5); empty means all.
	Pairs   esc.PairSet `json:"pairs"`
	Columns Columns     `json:"columns"`

	// Seeds holds each seed's columns where there are several; Columns are then
	// their means.
	Seeds []SeedColumns `json:"seeds,omitempty"`

	Turns    int `json:"turns"`    // scored
	Unparsed int `json:"unparsed"` // of which the output names no strategy
	// AuthorsRead counts those of Unparsed in which the authors' code reads one.
	AuthorsRead int `json:"authors_read"`
	// BiasNote says why the preference bias is not the paper's formula; empty
	// where it is.
	BiasNote  string     `json:"bias_note"`
	Intervals []Interval `json:"intervals"`
	// Chosen is what the strategy metrics rest on; nil where the strategies are
	// not the system's own, or none is named.
	Chosen *Chosen `json:"chosen,omitempty"`
	// Temperatures is the curve of the strategy metrics over temperature, in
	// rising order, Mass the mean probability, 0 to 1, that the model names any
	// strategy; with several seeds means over them.
	Temperatures []AtTemperature `json:"temperatures,omitempty"`
	Mass         float64         `json:"mass,omitempty"`

	// Strategies counts the predicted strategies (Figure 3), Preference is p_i
	// of equation 7 (Figure 4 b; nil: not computed).
	Strategies [esc.NumStrategies]int `json:"strategies"`
	Preference []float64              `json:"preference"`
	// Phases are Strategies by phase of the dialogue (Figure 8).
	Phases esc.Phases `json:"phases"`
	// Errors counts the judged replies by psychological error (Figure 2; a
	// reply may have several), Clean those without; nil: not judged.
	Errors *Errors `json:"errors"`
}

// Chosen is what a system's strategy metrics rest on; with several seeds, means
// over them.
type Chosen struct {
	// Accuracy is the share of right strategies among those named, 0 to 1.
	Accuracy float64 `json:"accuracy"`
	// Floor is the mean B of simulated predictors without a preference that are
	// right as often, FloorHigh its 95th percentile.
	Floor     float64 `json:"bias_floor"`
	FloorHigh float64 `json:"bias_floor_95"`
	// All are the metrics with replies that name no strategy counted as wrong.
	All StrategyNumbers `json:"counting_all"`
}

// AtTemperature are a system's strategy metrics where its strategies are drawn at
// a temperature from their exact probabilities: means over many draws.
type AtTemperature struct {
	Temperature float64 `json:"temperature"` // 0: greedy
	StrategyNumbers
}

// StrategyNumbers are B and, in percent, the weighted and macro F1.
type StrategyNumbers struct {
	PreferenceBias float64 `json:"preference_bias"`
	WeightedF1     float64 `json:"weighted_f1"`
	MacroF1        float64 `json:"macro_f1"`
}

// SeedColumns are the columns of one seed's models.
type SeedColumns struct {
	Seed    uint64  `json:"seed"`
	Columns Columns `json:"columns"`
}

// Errors counts psychological errors among judged replies.
type Errors struct {
	Judged  int                   `json:"judged"`
	Clean   int                   `json:"clean"`
	Classes [esc.NumPsyErrors]int `json:"classes"`
	// Clearest counts each reply once, by the error that the judge sees most
	// clearly in it: with Clean they are all judged replies.
	Clearest [esc.NumPsyErrors]int `json:"clearest"`
	// Unlike counts the judged replies whose strategy is not the gold one, or that
	// name none; what the judge calls a strategy mismatch it finds without the gold
	// one.
	Unlike int `json:"unlike_gold"`
}

// Interval is a 95 % interval of a column: of the dialogues by bootstrap, of
// several seeds by Student's t.
type Interval struct {
	Column string  `json:"column"` // its name in Table 3
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// Training summarises a training stage.
type Training struct {
	Stage          string   `json:"stage"`
	Kind           string   `json:"kind"` // pretrain, sft, dpo
	Steps          int      `json:"steps"`
	Tokens         int64    `json:"tokens"`
	Loss           *float64 `json:"loss"` // at the end, of the train split
	ValidationLoss *float64 `json:"validation_loss"`
	// DPO only: how often the chosen side has the higher implicit reward, and
	// by how much on average. Accuracy is a share, 0 to 1.
	Accuracy *float64 `json:"accuracy"`
	Margin   *float64 `json:"margin"`
	// Moved is nil where the record does not tell.
	Moved *Movement `json:"moved,omitempty"`
	Curve []Point   `json:"curve"`
}

// Movement is how far DPO has moved the mean log-probability of the pairs'
// answers, and what sampling does to that of the chosen ones, in nats.
type Movement struct {
	Chosen   float64 `json:"chosen"`
	Rejected float64 `json:"rejected"`
	Noise    float64 `json:"noise"`
	// Warning says what is wrong with it; empty where nothing is.
	Warning string `json:"warning,omitempty"`
}

// Point is what a training had at a step; any of it may be absent. Accuracy (a
// share, 0 to 1) and margin are DPO's, of the implicit rewards.
type Point struct {
	Step       int      `json:"step"`
	Loss       *float64 `json:"loss"`
	Validation *float64 `json:"validation"`
	Accuracy   *float64 `json:"accuracy,omitempty"`
	Margin     *float64 `json:"margin,omitempty"`
}

// Sample is a test turn with what each system replied.
type Sample struct {
	Dialogue int           `json:"dialogue"`
	Turn     int           `json:"turn"`
	Context  []esc.Message `json:"context"`
	Strategy esc.Strategy  `json:"gold_strategy"`
	Response string        `json:"gold_response"`
	Replies  []Reply       `json:"replies"`
}

// Reply is one system's reply.
type Reply struct {
	System   string         `json:"system"` // Row.System
	Strategy esc.Strategy   `json:"strategy"`
	Response string         `json:"response"`
	Errors   []esc.PsyError `json:"errors"`
	Judged   bool           `json:"judged"` // whether the judge has labelled it
}

// Stage is where a result comes from.
type Stage struct {
	Name        string `json:"name"` // with the seed, where there are several: "sft/sp@2"
	Kind        string `json:"kind"`
	Fingerprint string `json:"fingerprint"`
	Digest      string `json:"digest"` // of the artifact's manifest
	Engine      string `json:"engine"` // empty: none was needed
	// Inputs are the digests of the artifacts that it was made from, by the
	// names under which the stage knows them.
	Inputs map[string]string `json:"inputs,omitempty"`
}

// System names a row in figures and samples: "decoupled/dpo", "vanilla/dpo/nsnr".
func (r Row) System() string {
	s := string(r.Paradigm) + "/" + string(r.Method)
	if r.Pairs != "" && r.Pairs != esc.PairsAll {
		s += "/" + string(r.Pairs)
	}
	return s
}

// prepared returns a copy in which every number that is not finite is absent,
// or an error that names what no report can show.
func (d Data) prepared() (Data, error) {
	if d.Run.Experiment == "" {
		return d, errors.New("report: the run has no experiment name")
	}
	seen := map[[2]string]bool{}
	for _, of := range []struct {
		rows     *[]Row
		backbone string
	}{{&d.Systems, d.Run.Backbone}, {&d.Given, d.Run.Backbone}, {&d.Anchors, ""}} {
		*of.rows = slices.Clone(*of.rows)
		for i := range *of.rows {
			if err := (*of.rows)[i].prepare(of.backbone, seen); err != nil {
				return d, err
			}
		}
	}
	d.Wins = preparedWins(d.Wins)
	d.Checks = preparedEffects(d.Checks)
	d.Headline = trusted(d.Headline, d.Checks)
	d.Questions = slices.Clone(d.Questions)
	for i := range d.Questions {
		d.Questions[i] = d.Questions[i].prepared(d.Checks)
	}
	d.OtherJudges = slices.Clone(d.OtherJudges)
	for i := range d.OtherJudges {
		d.OtherJudges[i] = d.OtherJudges[i].prepared()
	}
	d.Training = slices.Clone(d.Training)
	for i := range d.Training {
		t := &d.Training[i]
		t.Loss, t.ValidationLoss = finite(t.Loss), finite(t.ValidationLoss)
		t.Accuracy, t.Margin = finite(t.Accuracy), finite(t.Margin)
		t.Curve = slices.Clone(t.Curve)
		for k := range t.Curve {
			p := &t.Curve[k]
			p.Loss, p.Validation, p.Accuracy, p.Margin = finite(p.Loss), finite(p.Validation), finite(p.Accuracy), finite(p.Margin)
		}
	}
	return d, nil
}

// Shown are the intervals of the columns that are present.
func (r Row) Shown() []Interval {
	var shown []Interval
	for c, column := range experiments.Table3() {
		if i := r.interval(column.Name); i != nil && r.Columns[c] != nil {
			shown = append(shown, *i)
		}
	}
	return shown
}

// prepare fills in the backbone, refuses what is not a row or stands twice, and
// drops numbers that are not finite.
func (r *Row) prepare(backbone string, seen map[[2]string]bool) error {
	if r.Backbone == "" {
		r.Backbone = backbone
	}
	key := [2]string{r.Backbone, r.System()}
	if seen[key] {
		return fmt.Errorf("report: system %s of %s appears twice", key[1], key[0])
	}
	seen[key] = true
	if n := len(r.Preference); n != 0 && n != esc.NumStrategies {
		return fmt.Errorf("report: system %s: %d preferences, want %d", r.System(), n, esc.NumStrategies)
	}
	if slices.ContainsFunc(r.Preference, notFinite) {
		r.Preference = nil
	}
	for c, v := range r.Columns {
		r.Columns[c] = finite(v)
	}
	r.Seeds = slices.Clone(r.Seeds)
	for i := range r.Seeds {
		for c, v := range r.Seeds[i].Columns {
			r.Seeds[i].Columns[c] = finite(v)
		}
	}
	r.Intervals = slices.DeleteFunc(slices.Clone(r.Intervals), func(i Interval) bool {
		return notFinite(i.Low) || notFinite(i.High)
	})
	return nil
}

func notFinite(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func finite(v *float64) *float64 {
	if v == nil || notFinite(*v) {
		return nil
	}
	return v
}
