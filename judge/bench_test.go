package judge

import (
	"testing"

	"github.com/esclab/esclab/esc"
)

// BenchmarkLabel labels the turns of ESConv's test split, one at a time.
func BenchmarkLabel(b *testing.B) {
	corpus := readCorpus(b)
	turns := esc.AllTurns(corpus.Test)
	judge := NewOffline(FitUsage(corpus.Train))
	for i := 0; b.Loop(); i++ {
		turn := turns[i%len(turns)]
		labelOf(b, judge, requestOf(turn.Context, esc.NoStrategy, turn.Strategy, turn.Response))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "labels/s")
}
