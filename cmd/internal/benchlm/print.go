package benchlm

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/esclab/esclab/internal/bench"
)

// print writes the report for people.
func (r *benchReport) print(out io.Writer) {
	fmt.Fprintf(out, "engine %s, %d cores; %.1f million parameters, vocabulary %d, LoRA rank %d\n",
		r.Engine, r.Cores, float64(r.Parameters)/1e6, r.Vocabulary, r.Rank)
	if r.PeakFLOPS == 0 {
		t := newBenchTable(out, table.Row{"workload", "examples", "skipped", "tokens", "in trees", "saved"})
		for _, w := range r.Workloads {
			t.AppendRow(table.Row{w.Name, w.Examples, w.Skipped, w.Tokens, w.Sharing.Tokens, saved(w.Sharing.Unpacked, w.Sharing.Tokens)})
		}
		t.Render()
		return
	}
	fmt.Fprintf(out, "peak of plain matrix products: %.1f GFLOP/s\nFLOP: %s\n", r.PeakFLOPS/1e9, r.Formula)
	if len(r.Training) > 0 {
		t := newBenchTable(out, table.Row{"training", "packing", "samples/s", "tokens/s", "plain/s", "saved", "step s", "GFLOP/s", "of peak", "compile s", "shapes", "peak MiB"})
		for _, m := range r.Training {
			t.AppendRow(table.Row{m.Workload, m.Packing, number(m.SamplesPerSecond), number(m.TokensPerSecond), number(m.PlainTokensPerSecond),
				saved(m.TokensUnpacked, m.Tokens), fmt.Sprintf("%.2f", m.MedianStep), number(m.FLOPS / 1e9), fmt.Sprintf("%.0f %%", 100*m.ShareOfPeak),
				fmt.Sprintf("%.2f", m.CompileSeconds), fmt.Sprintf("%d of %d", m.Compiled, m.Planned+1), m.PeakBytes >> 20})
		}
		t.Render()
	}
	if len(r.Generation) > 0 {
		t := newBenchTable(out, table.Row{"generation", "packing", "slots", "samples/s", "new/s", "tokens/s", "plain/s", "saved", "over none", "compile s", "shapes", "peak MiB"})
		for _, m := range r.Generation {
			over := ""
			if m.SpeedUp > 0 {
				over = fmt.Sprintf("%.1f ×", m.SpeedUp)
			}
			t.AppendRow(table.Row{m.Workload, m.Packing, m.Slots, number(m.SamplesPerSecond), number(m.NewTokensPerSecond), number(m.TokensPerSecond),
				number(m.PlainTokensPerSecond), saved(m.PromptTokens+m.NewTokens, m.PrefillTokens+m.NewTokens), over,
				fmt.Sprintf("%.2f", m.CompileSeconds), m.Compiled, m.PeakBytes >> 20})
		}
		t.Render()
	}
	if len(r.Decoding) > 0 {
		t := newBenchTable(out, table.Row{"decoding", "slots", "prompt", "new", "prefill tokens/s", "decode tokens/s", "compile s", "shapes", "peak MiB"})
		for _, m := range r.Decoding {
			t.AppendRow(table.Row{decoding, m.Slots, m.Prompt, m.New, number(m.PrefillTokensPerSecond), number(m.DecodeTokensPerSecond),
				fmt.Sprintf("%.2f", m.CompileSeconds), m.Compiled, m.PeakBytes >> 20})
		}
		t.Render()
	}
	if len(r.Beside) > 0 {
		r.printBeside(out)
	}
}

// printBeside writes the two sides for people.
func (r *benchReport) printBeside(out io.Writer) {
	t := newBenchTable(out, table.Row{"beside the peer", "packing", "unit", "rounds", "ours", "peer", "ratio", "peak MiB", "peer's"})
	for _, c := range r.Beside {
		t.AppendRow(table.Row{c.Workload, c.Packing, c.Unit, c.Rounds, spread(c.Ours), spread(c.Peer), spread(c.Ratio), c.PeakMiB, c.PeerPeakMiB})
	}
	t.Render()
}

// spread prints a median with the range of all rounds.
func spread(s bench.Spread) string {
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

func newBenchTable(out io.Writer, header table.Row) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(header)
	return t
}

// number prints three digits, or all before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func saved(plain, computed int) string {
	return fmt.Sprintf("%.1f ×", float64(plain)/float64(computed))
}
