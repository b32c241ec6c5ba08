package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// Measure is what a research question compares two systems by.
type Measure string

// The measures of the research questions.
const (
	MeasureBias     Measure = "preference_bias" // B of equation 8; smaller is better
	MeasureStrategy Measure = "weighted_f1"     // of the strategies, in percent
	MeasureQuality  Measure = "quality"         // mean of the judge's four scores, 0-5
	MeasureClean    Measure = "no_error"        // % of judged replies without a psychological error
)

// smaller says whether the smaller value is the better one.
func (m Measure) smaller() bool { return m == MeasureBias }

// Judged says whether the judge measures it.
func (m Measure) Judged() bool { return m == MeasureQuality || m == MeasureClean }

func (m Measure) String() string {
	switch m {
	case MeasureBias:
		return "preference bias B"
	case MeasureStrategy:
		return "strategy F1, weighted (%)"
	case MeasureQuality:
		return "response quality (mean of the judge's four scores)"
	case MeasureClean:
		return "replies without a psychological error (%)"
	}
	return string(m)
}

// Contrast is a measure of one system against that of another, each named as
// Row.System names it.
type Contrast struct {
	System  string  `json:"system"`
	Against string  `json:"against"`
	Measure Measure `json:"measure"`
}

// Question is a research question of the paper's section 6 with what a run has
// to say to it.
type Question struct {
	Name    string   `json:"name"` // RQ1
	Text    string   `json:"text"`
	Effects []Effect `json:"effects"`
	// Verdict follows from the effects; whoever makes a Question may leave it
	// empty.
	Verdict Verdict `json:"verdict"`
}

// Effect is a contrast as measured: the system's value minus that of the one
// it stands against.
type Effect struct {
	Contrast
	// Difference, its 95 % interval by paired bootstrap over dialogues and the
	// two-sided p-value of a paired permutation test over dialogues; nil where
	// they could not be computed.
	Difference *float64 `json:"difference"`
	Low        *float64 `json:"low"`
	High       *float64 `json:"high"`
	P          *float64 `json:"p"`
	Dialogues  int      `json:"dialogues"` // with turns that both systems are measured on
	Turns      int      `json:"turns"`
	// Seeds are the differences of each seed's models where there are several:
	// Difference is their mean, and the interval covers the choice of the seeds
	// as well.
	Seeds []SeedDifference `json:"seeds,omitempty"`
	// Untrusted says why the judge's word on this effect does not count; empty
	// where it does, or where the measure is not the judge's. It follows from the
	// checks of the judge; whoever makes an Effect may leave it empty.
	Untrusted string `json:"untrusted,omitempty"`
}

// SeedDifference is an effect between one seed's models.
type SeedDifference struct {
	Seed       uint64   `json:"seed"`
	Difference *float64 `json:"difference"`
}

// spread is the standard deviation over the seeds; nil where it is not defined.
func (e Effect) spread() *float64 {
	var values []float64
	for _, s := range e.Seeds {
		if s.Difference != nil {
			values = append(values, *s.Difference)
		}
	}
	return deviation(values)
}

// deviation is the standard deviation of a sample; nil with fewer than two
// values.
func deviation(values []float64) *float64 {
	if len(values) < 2 {
		return nil
	}
	mean, sum := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return Value(math.Sqrt(sum / float64(len(values)-1)))
}

// Verdict is the answer to a research question.
type Verdict string

// The verdicts.
const (
	Holds      Verdict = "holds"
	HoldsNot   Verdict = "does not hold"
	CannotTell Verdict = "cannot tell"
)

// significance is the level of the tests; the intervals cover 1 minus it.
const significance = 0.05

const verdictRule = "The rule, the same for every run: an effect is an improvement where its 95 % interval lies wholly on the better side of 0 and p < 0.05. " +
	"A question holds where every one of its effects is an improvement (so no correction for several tests is needed). " +
	"It does not hold where an effect's interval lies wholly on the worse side of 0 with p < 0.05 divided by the question's number of effects (one suffices, hence Bonferroni's correction). " +
	"An effect that the judge measures counts only where the judge puts the gold replies above shuffled ones, and above one canned reply everywhere, by more than this effect: " +
	"where the 95 % intervals of these differences lie wholly above its size. " +
	"Else nobody can tell from this run. Intervals and tests take the dialogues as the sample, not the turns. "

// What the numbers of one seed and of several cover.
const (
	oneSeedRule = "They take one trained model of each system as given: they do not cover how training varies by its seed."
	seedsRule   = "Differences are means over the seeds. An interval covers the choice of the dialogues, by bootstrap, and of the seeds, by Student's t with one degree of freedom fewer than there are seeds; " +
		"with few seeds it is wide, and should be. The test swaps the two systems' replies to a dialogue under all seeds at once and takes the trained models as given, so it is the interval that answers for the seeds."
)

// circularity is said of every run whose pairs the judge of the replies has labelled.
const circularity = "The judge of these replies has also labelled the errors that became the preference pairs: what was trained on them was trained towards its verdicts, " +
	"so its word for DPO is no independent one (mining.judge names another judge for the pairs, judge.also further ones for the replies)."

// ResearchQuestions are the paper's four questions with no effect measured
// yet: each effect has its contrast.
func ResearchQuestions() []Question {
	system := func(p experiments.Paradigm, m experiments.Method) string {
		return Row{Paradigm: p, Method: m}.System()
	}
	vanillaSFT, vanillaDPO := system(experiments.Vanilla, experiments.MethodSFT), system(experiments.Vanilla, experiments.MethodDPO)
	decoupledSFT, decoupledDPO := system(experiments.Decoupled, experiments.MethodSFT), system(experiments.Decoupled, experiments.MethodDPO)
	effect := func(system, against string, m Measure) Effect {
		return Effect{Contrast: Contrast{system, against, m}}
	}
	return []Question{
		{Name: "RQ1", Text: "Can Vanilla-DPO better mitigate preference bias and improve response quality compared to Vanilla-SFT?",
			Effects: []Effect{effect(vanillaDPO, vanillaSFT, MeasureBias), effect(vanillaDPO, vanillaSFT, MeasureQuality)}},
		{Name: "RQ2", Text: "Does the decoupled ESC framework lead to better bias reduction and response quality?",
			Effects: []Effect{effect(decoupledSFT, vanillaSFT, MeasureBias), effect(decoupledSFT, vanillaSFT, MeasureQuality),
				effect(decoupledDPO, vanillaDPO, MeasureBias), effect(decoupledDPO, vanillaDPO, MeasureQuality)}},
		{Name: "RQ3", Text: "In the decoupled setting, is DPO more effective than SFT?",
			Effects: []Effect{effect(decoupledDPO, decoupledSFT, MeasureBias), effect(decoupledDPO, decoupledSFT, MeasureQuality)}},
		{Name: "RQ4", Text: "Can Decoupled-DPO more effectively reduce common psychological errors by separately optimizing strategy and response?",
			Effects: []Effect{effect(decoupledDPO, vanillaSFT, MeasureClean), effect(decoupledDPO, vanillaDPO, MeasureClean)}},
	}
}

// Headline are the contrasts of the paper's claim, that decoupling helps: of the
// two systems with the most training that both paradigms have among those named;
// none where there is no such pair.
func Headline(systems []string) []Contrast {
	for _, m := range []experiments.Method{experiments.MethodDPO, experiments.MethodSFT, experiments.MethodBase} {
		system, against := Row{Paradigm: experiments.Decoupled, Method: m}.System(), Row{Paradigm: experiments.Vanilla, Method: m}.System()
		if !slices.Contains(systems, system) || !slices.Contains(systems, against) {
			continue
		}
		var all []Contrast
		for _, measure := range []Measure{MeasureBias, MeasureStrategy, MeasureQuality} {
			all = append(all, Contrast{system, against, measure})
		}
		return all
	}
	return nil
}

// JudgeChecks are the contrasts that show what a judge tells apart: gold replies
// from those of another dialogue, and from one canned reply everywhere.
func JudgeChecks() []Contrast {
	anchor := func(m experiments.Method) string { return Row{Paradigm: experiments.Anchor, Method: m}.System() }
	var all []Contrast
	for _, m := range []Measure{MeasureQuality, MeasureClean} {
		for _, against := range []experiments.Method{experiments.MethodShuffled, experiments.MethodCanned} {
			all = append(all, Contrast{anchor(experiments.MethodGold), anchor(against), m})
		}
	}
	return all
}

// untrusted says why the judge's word on an effect does not count, by what the
// judge tells apart.
func (e Effect) untrusted(checks []Effect) string {
	if !e.Measure.Judged() || e.Difference == nil {
		return ""
	}
	for _, c := range JudgeChecks() {
		if c.Measure != e.Measure {
			continue
		}
		i := slices.IndexFunc(checks, func(check Effect) bool { return check.Contrast == c })
		switch {
		case i < 0 || checks[i].Low == nil:
			return fmt.Sprintf("the judge was not asked to tell %s from %s", c.System, c.Against)
		case *checks[i].Low <= math.Abs(*e.Difference):
			return fmt.Sprintf("the judge's difference of %s from %s is %s (95 %% interval %s to %s), not surely more than this effect",
				c.System, c.Against, signed(checks[i].Difference), signed(checks[i].Low), signed(checks[i].High))
		}
	}
	return ""
}

// direction is 1 for an improvement at the level of the test, -1 for its
// opposite, 0 where neither is shown.
func (e Effect) direction(level float64) int {
	if e.Untrusted != "" || e.Difference == nil || e.Low == nil || e.High == nil || e.P == nil || *e.P >= level {
		return 0
	}
	sign := 0
	switch {
	case *e.Low > 0:
		sign = 1
	case *e.High < 0:
		sign = -1
	}
	if e.Measure.smaller() {
		sign = -sign
	}
	return sign
}

// verdict applies verdictRule.
func (q Question) verdict() Verdict {
	better := 0
	for _, e := range q.Effects {
		if e.direction(significance/float64(len(q.Effects))) < 0 {
			return HoldsNot
		}
		if e.direction(significance) > 0 {
			better++
		}
	}
	if better > 0 && better == len(q.Effects) {
		return Holds
	}
	return CannotTell
}

// preparedEffects drops numbers that are not finite.
func preparedEffects(effects []Effect) []Effect {
	effects = slices.Clone(effects)
	for i := range effects {
		e := &effects[i]
		e.Difference, e.Low, e.High, e.P = finite(e.Difference), finite(e.Low), finite(e.High), finite(e.P)
		e.Seeds = slices.Clone(e.Seeds)
		for k := range e.Seeds {
			e.Seeds[k].Difference = finite(e.Seeds[k].Difference)
		}
	}
	return effects
}

// Short names a measure in a few words.
func (m Measure) Short() string {
	switch m {
	case MeasureBias:
		return "preference bias"
	case MeasureStrategy:
		return "strategy F1"
	case MeasureQuality:
		return "quality"
	case MeasureClean:
		return "replies without error"
	}
	return string(m)
}

// InWords gives the difference, its interval and what they show.
func (e Effect) InWords() (difference, interval, finding string) {
	digits := 3
	if e.Measure == MeasureStrategy || e.Measure == MeasureClean { // percent
		digits = 1
	}
	difference, interval, finding = signedTo(e.Difference, digits), absent, "not measured"
	if e.Low != nil && e.High != nil {
		interval = fmt.Sprintf("[%s, %s]", signedTo(e.Low, digits), signedTo(e.High, digits))
	}
	if e.Difference != nil {
		finding = map[int]string{1: "better", 0: "no difference shown", -1: "worse"}[e.direction(significance)]
	}
	if e.Untrusted != "" {
		finding = "the judge cannot tell"
	}
	return difference, interval, finding
}

// trusted prepares effects of which the judge's word counts as far as the checks of
// the judge bear it.
func trusted(effects, checks []Effect) []Effect {
	effects = preparedEffects(effects)
	for i := range effects {
		effects[i].Untrusted = effects[i].untrusted(checks)
	}
	return effects
}

// prepared drops numbers that are not finite and fills in the verdict.
func (q Question) prepared(checks []Effect) Question {
	q.Effects = trusted(q.Effects, checks)
	q.Verdict = q.verdict()
	return q
}

// sentence puts an effect in words.
func (e Effect) sentence() string {
	if e.Difference == nil {
		return fmt.Sprintf("%s, %s against %s: not measured in this run.", e.Measure, e.System, e.Against)
	}
	finding := "no difference is shown"
	switch e.direction(significance) {
	case 1:
		finding = "an improvement"
	case -1:
		finding = "a deterioration"
	}
	if e.Untrusted != "" {
		finding = "nobody can tell, because " + e.Untrusted
	}
	if e.P != nil && e.Low != nil && e.High != nil && (*e.P < significance) == (*e.Low <= 0 && *e.High >= 0) {
		finding += "; interval and test disagree, and an effect needs both (the test takes the trained models as given)"
	}
	seeds := ""
	if len(e.Seeds) > 1 {
		seeds = fmt.Sprintf("; %s with a standard deviation of %s between seeds", e.bySeed(), fixed(e.spread(), 3))
	}
	return fmt.Sprintf("%s, %s against %s: %s (95 %% interval %s to %s, p = %s given the trained models, %d turns of %d dialogues%s): %s.", e.Measure, e.System, e.Against,
		signed(e.Difference), signed(e.Low), signed(e.High), fixed(e.P, 4), e.Turns, e.Dialogues, seeds, finding)
}

// bySeed lists the seeds' differences.
func (e Effect) bySeed() string {
	var all []string
	for _, s := range e.Seeds {
		all = append(all, fmt.Sprintf("seed %d %s", s.Seed, signed(s.Difference)))
	}
	return strings.Join(all, ", ")
}

// answer is a question's verdict, and what it rests on in words.
type answer struct {
	Question, Verdict string
	Because           []string // an effect each
}

func (q Question) answer() answer {
	a := answer{Question: q.Name + ". " + q.Text, Verdict: string(q.Verdict)}
	for _, e := range q.Effects {
		s := e.sentence()
		a.Because = append(a.Because, strings.ToUpper(s[:1])+s[1:])
	}
	return a
}

// signed is fixed with three digits and a sign.
func signed(v *float64) string { return signedTo(v, 3) }

// signedTo is fixed with a sign; what rounds to 0 has none.
func signedTo(v *float64, digits int) string {
	s := fixed(v, digits)
	if v != nil && *v > 0 && s != fixed(Value(0), digits) {
		s = "+" + s
	}
	return s
}

// questionSection answers the research questions.
func questionSection(d Data, _ paper) (section, error) {
	s := section{ID: "questions", Title: "Research questions"}
	if len(d.Questions) == 0 {
		s.Missing = "RQ1 to RQ4 compare vanilla/sft, vanilla/dpo, decoupled/sft and decoupled/dpo: the run has too few of them"
		if s.Tables = nonEmpty(checkTable(d)); len(s.Tables) > 0 {
			s.Text = []string{s.Missing + "."}
		}
		return s, nil
	}
	t := table{
		Loose:   true,
		Caption: "Effects: a system's value minus that of the one it stands against",
		Heads:   append([]head{{Text: "Question"}, {Text: "Verdict"}}, effectHeads()...),
	}
	several := len(d.Run.Seeds) > 1
	if several {
		for _, seed := range d.Run.Seeds {
			t.Heads = append(t.Heads, head{fmt.Sprintf("Seed %d", seed), true})
		}
		t.Heads = append(t.Heads, head{"SD", true})
	}
	var systems []string
	for _, q := range d.Questions {
		s.Answers = append(s.Answers, q.answer())
		for i, e := range q.Effects {
			systems = append(systems, e.System, e.Against)
			name, verdict := text(q.Name), text(string(q.Verdict))
			name.Rows, verdict.Rows = len(q.Effects), len(q.Effects)
			name.Covered, verdict.Covered = i > 0, i > 0
			row := append([]cell{name, verdict}, e.cells()...)
			if several {
				for k := range d.Run.Seeds {
					var difference *float64
					if k < len(e.Seeds) {
						difference = e.Seeds[k].Difference
					}
					row = append(row, number(signed(difference)))
				}
				row = append(row, decimal(e.spread(), 3))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	rule := verdictRule + oneSeedRule
	if several {
		rule = verdictRule + seedsRule
	}
	s.Text = append(s.Text, rule)
	if circular := d.circular(); circular != "" {
		s.Text = append(s.Text, circular)
	}
	t.Sources = d.sources(systems, evaluated...)
	s.Tables = append(nonEmpty(t, checkTable(d)), judgeTables(d)...)
	return s, nil
}

// checkTable shows what the judge tells apart.
func checkTable(d Data) table {
	t := table{
		Caption: "What the judge tells apart: gold replies against gold replies of another dialogue, and against one canned reply everywhere",
		Heads:   effectHeads(),
		Sources: d.sources(systemNames(d.Anchors), evaluated...),
	}
	if d.Run.Judge.likePaper() {
		t.Notes = []string{"By the paper's protocol the judge sees the gold reply as reference: anchor/gold is judged beside itself, which is the easiest of comparisons."}
	}
	for _, e := range d.Checks {
		t.Rows = append(t.Rows, e.cells())
	}
	return t
}

func effectHeads() []head {
	return []head{{Text: "Measure"}, {Text: "System"}, {Text: "Against"},
		{"Difference", true}, {"95 % interval", true}, {"p given the models", true}, {"Dialogues", true}}
}

// cells are those under effectHeads.
func (e Effect) cells() []cell {
	interval := absent
	if e.Low != nil && e.High != nil {
		interval = signed(e.Low) + " … " + signed(e.High)
	}
	return []cell{text(e.Measure.String()), text(e.System), text(e.Against),
		number(signed(e.Difference)), number(interval), decimal(e.P, 4), count(e.Dialogues)}
}
