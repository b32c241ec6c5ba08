package activities

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/tfidf"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
)

// runAnchor replies to the test turns as no system does.
func runAnchor(ctx context.Context, t *attempt, params experiments.AnchorParams) (output, error) {
	corpus, err := readCorpus(ctx, t, results.FileTrain, results.FileTest)
	if err != nil {
		return output{}, err
	}
	turns := drawTurns(esc.AllTurns(corpus[results.FileTest]), params.MaxTurns, params.Seed)
	replies := make([]reply, len(turns))
	switch params.Method {
	case experiments.MethodGold:
		for i, turn := range turns {
			replies[i] = replyOf(turn.Strategy, turn.Response)
		}
	case experiments.MethodShuffled:
		for i, turn := range shuffled(turns, params.Seed) {
			replies[i] = replyOf(turn.Strategy, turn.Response)
		}
	case experiments.MethodCanned:
		for i := range turns {
			replies[i] = replyOf(esc.Suggestions, params.Reply)
		}
	case experiments.MethodTFIDF:
		planner := tfidf.Fit(esc.AllTurns(corpus[results.FileTrain]))
		for i, turn := range turns {
			replies[i] = replyOf(planner.Plan(turn.Context), "")
		}
	default:
		return output{}, badInput(fmt.Errorf("unknown anchor %q", params.Method))
	}
	rows := make([]results.Prediction, len(turns))
	for i, turn := range turns {
		rows[i] = predict(turn, replies[i])
	}
	path, err := t.create(results.FilePredictions, func(f *os.File) error { return results.WriteRows(f, rows) })
	if err != nil {
		return output{}, err
	}
	return output{files: map[string]string{results.FilePredictions: path}, metrics: map[string]float64{"turns": float64(len(rows))}}, nil
}

func replyOf(strategy esc.Strategy, response string) reply {
	return reply{Parsed: esc.Parsed{Strategy: strategy, Response: response, OK: true}}
}

// shuffled gives each turn another one, all of them once: of another dialogue,
// as long as no dialogue has more than half of all turns. Dialogues, and the
// turns of each, are put into the order of their counters; in this ring each turn
// gets the one that is as far on as the longest dialogue is long.
func shuffled(turns []esc.Turn, seed uint64) []esc.Turn {
	size, longest := map[int]int{}, 0
	for _, turn := range turns {
		size[turn.Dialogue]++
		longest = max(longest, size[turn.Dialogue])
	}
	ring := order(turns, seed)
	first := map[int]int{} // of a dialogue's turns in the order of all
	for rank, at := range ring {
		if _, seen := first[turns[at].Dialogue]; !seen {
			first[turns[at].Dialogue] = rank
		}
	}
	slices.SortStableFunc(ring, func(a, b int) int {
		return cmp.Compare(first[turns[a].Dialogue], first[turns[b].Dialogue])
	})
	out := make([]esc.Turn, len(turns))
	for rank, at := range ring {
		out[at] = turns[ring[(rank+longest)%len(ring)]]
	}
	return out
}
