package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
)

func TestDemoCorpusIsCurrent(t *testing.T) {
	data, err := generate(democorpus.Seed, democorpus.Dialogues)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, democorpus.JSON()) {
		t.Error("demo.json is not what the grammar writes; run go generate ./esc/democorpus")
	}
}

func TestDialogues(t *testing.T) {
	dialogues, err := esc.ReadDialogues("demo.json", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if size := len(democorpus.JSON()); size > 400<<10 {
		t.Errorf("demo.json has %d bytes", size)
	}
	texts := map[string]int{}
	for _, d := range dialogues {
		if n := len(d.Utterances); n < 8 || n > 28 {
			t.Errorf("dialogue %d has %d utterances", d.Index, n)
		}
		said := map[string]bool{}
		for _, u := range d.Utterances {
			if strings.Contains(u.Text, "%!") || strings.Contains(u.Text, "..") || said[u.Text] {
				t.Errorf("dialogue %d: %q", d.Index, u.Text)
			}
			said[u.Text] = true
		}
		key := ""
		for _, m := range esc.Chat(d) {
			key += m.Content + "\n"
		}
		texts[key]++
	}
	if len(texts) != len(dialogues) {
		t.Errorf("%d different dialogues of %d", len(texts), len(dialogues))
	}
	statistics := esc.ComputeStatistics(dialogues)
	for _, s := range esc.Strategies() {
		if share := float64(statistics.Strategies[s]) / float64(statistics.Assistant); share < 0.04 || share > 0.35 {
			t.Errorf("%s has a share of %.3f", s, share)
		}
	}
	t.Logf("%d dialogues, %d turns, %.1f messages each, strategies %v, %d bytes",
		len(dialogues), statistics.Assistant, statistics.AvgTurns, statistics.Strategies, len(democorpus.JSON()))
}
