package metrics

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
)

// subsequence is the textbook's table, row by row.
func subsequence(a, b []string) int {
	row := make([]int, len(b)+1)
	for _, x := range a {
		diagonal := 0
		for j, y := range b {
			above := row[j+1]
			if row[j+1] = max(above, row[j]); x == y {
				row[j+1] = diagonal + 1
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

func TestCommonSubsequence(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func() []string {
		words := make([]string, random.IntN(300))
		vocabulary := 1 + random.IntN(40)
		for i := range words {
			words[i] = fmt.Sprint(random.IntN(vocabulary))
		}
		return words
	}
	for range 500 {
		a, b := text(), text()
		if got, _ := commonSubsequence(a, b); got != subsequence(a, b) {
			t.Fatalf("%d words in common of %v and %v, want %d", got, a, b, subsequence(a, b))
		}
	}
	// Two texts of 250,000 words that differ in every other, the longest that a line
	// of MaxLine bytes has: 64 cells of the table at a time.
	long := strings.Fields(strings.Repeat("a b a c ", MaxLine/16))
	other := strings.Fields(strings.Repeat("a d b a ", MaxLine/16))
	_, steps := commonSubsequence(long, other)
	if most := len(long) * (len(other)/64 + 1); steps > most {
		t.Errorf("%d steps for %d by %d words, want %d at most", steps, len(long), len(other), most)
	}
}

// A file is scored in memory that does not grow with its lines.
func TestScorerKeepsNothing(t *testing.T) {
	tok := newTokenizer(t)
	scorer, err := NewScorer(tok, 2)
	if err != nil {
		t.Fatal(err)
	}
	held := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	add := func(lines int) {
		for i := range lines {
			p := Prediction{Dialogue: fmt.Sprint(i), GoldStrategy: i % 2, Strategy: i/2%2 - i%2, GoldResponse: fmt.Sprintf("What did you do on day %d?", i), Response: fmt.Sprintf("I see, %d.", i)}
			if err := scorer.Add(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(100)
	before := held()
	add(5000)
	if grown := held() - before; grown > 64<<10 {
		t.Errorf("5,000 predictions keep %d bytes, want none", grown)
	}
	if r, err := scorer.Report(); err != nil || r.Samples != 5100 {
		t.Errorf("%d samples, %v; want 5100", r.Samples, err)
	}
}
