package judge

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

var reference = flag.String("reference", filepath.Join("..", "..", "shared"), "the folder of the reference data")

// readReference reads a JSON file of the reference data, and skips where it is
// absent.
func readReference(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(*reference, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the reference data %s is not in %s", name, *reference)
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// labelled is a request with the class that an LLM gave it, or clean.
type labelled struct {
	dialogue int
	request  Request
	class    esc.PsyError
	clean    bool
}

// errorTypes maps the labels' loose vocabulary; "", None, N/A and Others mean
// no error of the five classes.
var errorTypes = map[string]esc.PsyError{
	"Mismatched Strategy":                  esc.StrategyMismatch,
	"Lack of Empathetic Content":           esc.LackOfEmpathy,
	"Premature Emotional Transition":       esc.EarlyEmotionShift,
	"Repetitive or Template-like Response": esc.TemplateResponse,
	"Emotional Misunderstanding":           esc.EmotionMisread,
}

type place struct {
	dialogue int
	context  []esc.Message
	response string
}

// failedESConv joins labels.json with the dialogues of FailedESConv.json. The
// labels carry no positions, but come in runs of whole dialogues: each run of
// responses is matched with the longest equal run.
func failedESConv(t testing.TB) []labelled {
	t.Helper()
	var dialogues []struct {
		Dialog []struct {
			Speaker    string
			Annotation struct{ Strategy string }
			Content    string
		}
	}
	var labels []struct {
		ErrorType string `json:"Error Type"`
		Strategy  esc.Strategy
		Response  string
	}
	readReference(t, "failed-esconv/FailedESConv.json", &dialogues)
	readReference(t, "failed-esconv/labels.json", &labels)
	folded := func(s string) string { return strings.Join(strings.Fields(s), " ") }

	var places []place
	starts := map[string][]int{}
	for i, d := range dialogues {
		converted := esc.Dialogue{Index: i}
		for _, u := range d.Dialog {
			if u.Speaker == "listener" {
				// Their strategies' spelling differs; the answers before
				// count, their strategies do not.
				converted.Utterances = append(converted.Utterances, esc.Utterance{Speaker: esc.Supporter, Strategy: esc.Others, Text: folded(u.Content)})
			} else {
				converted.Utterances = append(converted.Utterances, esc.Utterance{Speaker: esc.Seeker, Strategy: esc.NoStrategy, Text: folded(u.Content)})
			}
		}
		for _, turn := range esc.Turns(converted) {
			starts[turn.Response] = append(starts[turn.Response], len(places))
			places = append(places, place{i, turn.Context, turn.Response})
		}
	}
	var joined []labelled
	for i := 0; i < len(labels); {
		best, length := -1, 0
		for _, p := range starts[folded(labels[i].Response)] {
			k := 0
			for i+k < len(labels) && p+k < len(places) && places[p+k].dialogue == places[p].dialogue &&
				folded(labels[i+k].Response) == places[p+k].response {
				k++
			}
			if k > length {
				best, length = p, k
			}
		}
		if length == 0 {
			i++
			continue
		}
		for k := range length {
			l := labels[i+k]
			class, faulty := errorTypes[l.ErrorType]
			at := places[best+k]
			joined = append(joined, labelled{at.dialogue, Request{Context: at.context, Gold: esc.NoStrategy, Strategy: l.Strategy, Response: at.response}, class, !faulty})
		}
		i += length
	}
	if len(joined) < len(labels)*99/100 {
		t.Fatalf("only %d of %d labels found their dialogue", len(joined), len(labels))
	}
	return joined
}

// table is a two-by-two table of two raters.
type table struct{ both, ours, theirs, neither float64 }

func (c *table) count(ours, theirs bool) {
	switch {
	case ours && theirs:
		c.both++
	case ours:
		c.ours++
	case theirs:
		c.theirs++
	default:
		c.neither++
	}
}

// kappa is Cohen's (1960): agreement beyond chance.
func (c table) kappa() float64 {
	n := c.both + c.ours + c.theirs + c.neither
	observed := (c.both + c.neither) / n
	a, b := (c.both+c.ours)/n, (c.both+c.theirs)/n
	chance := a*b + (1-a)*(1-b)
	if chance == 1 {
		return 0
	}
	return (observed - chance) / (1 - chance)
}

// TestAgreementWithLabels measures Cohen's kappa per class: whether we report
// the class against whether it is the label. An LLM gave one label an answer,
// and an error to nine of ten; we report none, one or several. The weights are
// fitted to these labels, so this is not unseen data; TestCrossValidation has that.
func TestAgreementWithLabels(t *testing.T) {
	samples := failedESConv(t)
	judge := NewOffline(nil)
	var tables [esc.NumPsyErrors]table
	var same, faulty, foundFaulty, foundClean float64
	for _, s := range samples {
		verdict, err := judge.Label(context.Background(), s.request)
		if err != nil {
			t.Fatal(err)
		}
		found := verdict.Errors()
		for _, class := range esc.PsyErrors() {
			tables[class].count(slices.Contains(found, class), !s.clean && s.class == class)
		}
		switch {
		case s.clean && len(found) == 0:
			same++
		case s.clean:
			foundClean++
		default:
			faulty++
			if len(found) > 0 {
				foundFaulty++
				if found[0] == s.class {
					same++
				}
			}
		}
	}
	n := float64(len(samples))
	t.Logf("%d labels: same first class %.3f; something found in %.3f of the faulty and in %.3f of the clean",
		len(samples), same/n, foundFaulty/faulty, foundClean/(n-faulty))
	for _, class := range esc.PsyErrors() {
		c := tables[class]
		t.Logf("%-20s kappa %.3f  ours %4.0f, labels %4.0f, both %4.0f", class, c.kappa(), c.both+c.ours, c.both+c.theirs, c.both)
		if floor := agreementFloors[class]; c.kappa() < floor {
			t.Errorf("%s: kappa %.3f, want at least %.2f", class, c.kappa(), floor)
		}
	}
	if foundFaulty/faulty < foundClean/(n-faulty)+0.2 {
		t.Error("the faulty are hardly found more often than the clean")
	}
}

// What a regression on TF-IDF has reached in the same folds, by scikit-learn in
// a review; the judge must reach it on dialogues that it has not been fitted to
// (see TestCrossValidation).
var agreementFloors = [esc.NumPsyErrors]float64{
	esc.StrategyMismatch:  0.31,
	esc.LackOfEmpathy:     0.50,
	esc.EarlyEmotionShift: 0.43,
	esc.TemplateResponse:  0.22,
	esc.EmotionMisread:    0.18,
}
