package judge

import (
	"bytes"
	"encoding/binary"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/logistic"
)

var update = flag.Bool("update", false, "fit fitted.bin anew")

// sample is an answer as the classifier sees it, with its labels. EmotionMisread
// has too few labels for all features: few holds the strategy, and the words of
// the answer and of the message answered.
type sample struct {
	dialogue int
	points   [esc.NumPsyErrors]int
	few, all logistic.Example
	y        [esc.NumPsyErrors]bool
}

func readCorpus(t testing.TB) esc.Corpus {
	t.Helper()
	corpus, err := esc.ReadCorpus(esc.Source{Path: filepath.Join(*reference, "esconv")})
	if err != nil {
		t.Skipf("the reference data esconv is not in %s: %v", *reference, err)
	}
	return corpus
}

func fitSamples(t testing.TB, tables *tables) []sample {
	t.Helper()
	o := &Offline{tables: tables}
	var all []sample
	for _, l := range failedESConv(t) {
		s := o.observe(l.request)
		points := pointsOf(s)
		x := tables.labelFeatures(s, points)
		if len(x.dense) != denseFeatures {
			t.Fatalf("%d dense features, want %d", len(x.dense), denseFeatures)
		}
		one := sample{dialogue: l.dialogue, points: points, all: dense(x.dense, false)}
		few := slices.Clone(x.dense)
		for i := range few[1:] {
			if at := 1 + i - basicFeatures; at < 0 || at%(1+signFeatures) != 0 { // all but the strategy itself
				few[1+i] = 0
			}
		}
		one.few = dense(few, false)
		for i, f := range append(x.hashed, x.beside...) {
			bucket := denseFeatures + int(f.hash%labelBuckets)
			one.all.At, one.all.Value = append(one.all.At, bucket), append(one.all.Value, f.value)
			if i < len(x.hashed) {
				one.few.At, one.few.Value = append(one.few.At, bucket), append(one.few.Value, f.value)
			}
		}
		if !l.clean {
			one.y[l.class] = true
		}
		all = append(all, one)
	}
	return all
}

// labelPenalty, and by how much a class must hold to be reported, are chosen by
// cross-validation.
const labelPenalty = 1.5

var labelBounds = [esc.NumPsyErrors]float64{
	esc.StrategyMismatch: 0, esc.LackOfEmpathy: 0.25, esc.EarlyEmotionShift: 0.5, esc.TemplateResponse: 0.25, esc.EmotionMisread: 0,
}

func (s sample) of(class esc.PsyError) logistic.Example {
	e := s.all
	if class == esc.EmotionMisread {
		e = s.few
	}
	e.Y = s.y[class]
	return e
}

// fitClass fits a class on the signs and the words that at least two answers have.
func fitClass(all []sample, class esc.PsyError) []float64 {
	seen := make([]int, denseFeatures+labelBuckets)
	for _, s := range all {
		for _, i := range s.of(class).At {
			seen[i]++
		}
	}
	var examples []logistic.Example
	for _, s := range all {
		whole := s.of(class)
		e := logistic.Example{Y: whole.Y}
		for k, i := range whole.At {
			if i < denseFeatures || seen[i] > 1 {
				e.At, e.Value = append(e.At, i), append(e.Value, whole.Value[k])
			}
		}
		examples = append(examples, e)
	}
	w := logistic.Fit(examples, denseFeatures+labelBuckets, labelPenalty, balanced(examples, 1))
	w[0] -= labelBounds[class] // so that 0 decides
	return w
}

// split divides by dialogue, so that no dialogue stands on both sides.
func split(all []sample, fold func(dialogue int) bool) (in, out []sample) {
	for _, s := range all {
		if fold(s.dialogue) {
			out = append(out, s)
		} else {
			in = append(in, s)
		}
	}
	return in, out
}

// TestCrossValidation measures what the classifier agrees with on dialogues
// that its weights have not seen: the mean of five draws of five folds. Features,
// penalty and bounds were chosen on the folds d%5, which are none of these.
func TestCrossValidation(t *testing.T) {
	if testing.Short() {
		t.Skip("fits two regressions 25 times for each class")
	}
	const draws = 5
	all := fitSamples(t, fitted())
	var ours, plain [esc.NumPsyErrors]float64
	for draw := range uint64(draws) {
		folds := func(dialogue int) int { return rand.New(rand.NewPCG(1+draw, uint64(dialogue))).IntN(5) }
		for class, k := range plainKappas(t, folds) {
			plain[class] += k / draws
		}
		var tables [esc.NumPsyErrors]table
		for fold := range 5 {
			in, out := split(all, func(d int) bool { return folds(d) == fold })
			for _, class := range esc.PsyErrors() {
				w := fitClass(in, class)
				for _, s := range out {
					tables[class].count(decided(class, s.points[class], s.of(class).Dot(w)), s.y[class])
				}
			}
		}
		for class, c := range tables {
			ours[class] += c.kappa() / draws
		}
	}
	for _, class := range esc.PsyErrors() {
		t.Logf("%-20s kappa %.3f on unseen dialogues, a plain regression's %.3f", class, ours[class], plain[class])
		if floor := agreementFloors[class]; ours[class] < floor {
			t.Errorf("%s: kappa %.3f, want at least %.2f", class, ours[class], floor)
		}
		// Misread emotions are 116 of 2,315: the two regressions are on a par there.
		if allowed := when(class == esc.EmotionMisread, 0.02); ours[class] < plain[class]-allowed {
			t.Errorf("%s: kappa %.3f is below a plain regression's %.3f", class, ours[class], plain[class])
		}
	}
}

// TestFit fits the judge's tables anew, with -update: the towers on four fifths
// of ESConv's train split, the merit on the rest, the labels on FailedESConv. The
// seed is fixed: the same data give the same bytes. It is a test of its own run,
// before those that measure. Raise the kinds' versions with it.
func TestFit(t *testing.T) {
	if !*update {
		t.Skip("with -update alone")
	}
	corpus := readCorpus(t)
	tables := new(tables)
	tables.fitIDF(corpus.Train)
	var seen, unseen []observed
	for _, o := range observeAll(tables, esc.AllTurns(corpus.Train)) {
		if o.turn.Dialogue%5 == 4 {
			unseen = append(unseen, o)
		} else {
			seen = append(seen, o)
		}
	}
	tables.fitTowers(seen, 1)
	tables.fitMerit(unseen, 1)
	t.Logf("coherence %.2f", tables.Coherence)
	t.Logf("substance %.2f", tables.Substance)
	all := fitSamples(t, tables)
	for _, class := range esc.PsyErrors() {
		w, into := fitClass(all, class), &tables.Labels[class]
		largest := 0.0
		for i, v := range w {
			if i < denseFeatures {
				into.Dense[i] = float32(v)
			} else {
				largest = max(largest, math.Abs(v))
			}
		}
		into.Scale = float32(largest / 127)
		for b := range into.Hashed {
			into.Hashed[b] = int8(math.Round(w[denseFeatures+b] / float64(into.Scale)))
		}
	}
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, tables); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("fitted.bin", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// balanced weighs the two classes of examples the same where odds is 1, else the
// positive one odds times as much.
func balanced(examples []logistic.Example, odds float64) func(y bool) float64 {
	positives := 0.0
	for _, e := range examples {
		if e.Y {
			positives++
		}
	}
	n := float64(len(examples))
	return func(y bool) float64 {
		if y {
			return odds * n / (2 * max(positives, 1))
		}
		return n / (2 * max(n-positives, 1))
	}
}
