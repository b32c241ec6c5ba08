package activities

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

const (
	preferStage  = "prefer/vanilla/base/vs/decoupled/sft"
	qualityStage = "quality/rg"
	comparisons  = "judge.compare=[[vanilla/base, decoupled/sft], [vanilla/base, vanilla/sft]]"
)

func (l *testLab) preference(t *testing.T, stage string) (results.Preference, []results.Compared) {
	t.Helper()
	var sum results.Preference
	if err := json.Unmarshal(l.read(t, stage, results.FilePreference), &sum); err != nil {
		t.Fatal(err)
	}
	return sum, decoded[results.Compared](t, l.read(t, stage, results.FileCompared))
}

// Two systems are compared at the turns that the judge stages draw, in both
// orders; faults change nothing, and the other way round is the mirror image
// that costs nothing.
func TestPreferStage(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s, comparisons)
	want, err := l.run(preferStage)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n != 2*judgedReplies {
		t.Errorf("%d requests", n)
	}
	sum, rows := l.preference(t, preferStage)
	shares := 0.0
	counts := map[bool]int{}
	for _, row := range rows {
		shares += row.First
		counts[row.First > 0.5]++
		if row.Problem != "" || row.Reasons[0] == "" || row.Reasons[1] == "" {
			t.Errorf("the row has %+v, want no problem and a reason for each order", row)
		}
	}
	if sum.Samples != judgedReplies || sum.Wins != counts[true] || sum.Wins+sum.Ties+sum.Losses != judgedReplies ||
		math.Abs(sum.WinRate-shares/judgedReplies) > 1e-12 || sum.First != "vanilla/base" || sum.Second != "decoupled/sft" || want.Metrics["win_rate"] != sum.WinRate {
		t.Errorf("%+v of %+v", sum, rows)
	}
	if sum.Wins == 0 || sum.Losses == 0 {
		t.Errorf("the server's rule prefers both at times: %+v", sum)
	}
	l.judge(t)
	for i, row := range l.rows(t) {
		if row.Dialogue != rows[i].Dialogue || row.Turn != rows[i].Turn {
			t.Errorf("judged is dialogue %d, turn %d; compared dialogue %d, turn %d", row.Dialogue, row.Turn, rows[i].Dialogue, rows[i].Turn)
		}
	}

	s.Set(chattest.Faulty)
	shaky := newLab(t, s, comparisons)
	if got, err := shaky.run(preferStage); err != nil || got.Digest != want.Digest {
		t.Errorf("faults changed the artifact: %s and %s (%v)", got.Digest, want.Digest, err)
	}
	shaky.noCanary(t)

	s.Set(nil)
	mirrored := newLab(t, s, "judge.compare=[[decoupled/sft, vanilla/base]]")
	if _, err := mirrored.run("prefer/decoupled/sft/vs/vanilla/base"); err != nil {
		t.Fatal(err)
	}
	back, backRows := mirrored.preference(t, "prefer/decoupled/sft/vs/vanilla/base")
	if back.Wins != sum.Losses || back.Losses != sum.Wins || math.Abs(back.WinRate+sum.WinRate-1) > 1e-12 {
		t.Errorf("%+v is not the mirror image of %+v", back, sum)
	}
	for i, row := range backRows {
		if row.First != 1-rows[i].First || row.Reasons[0] != rows[i].Reasons[1] {
			t.Errorf("%+v and %+v", row, rows[i])
		}
	}
}

// Equal replies are ties that nobody is asked about.
func TestPreferEqualReplies(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s, comparisons)
	if _, err := l.run("prefer/vanilla/base/vs/vanilla/sft"); err != nil || len(s.Requests()) != 0 {
		t.Errorf("%v with %d requests", err, len(s.Requests()))
	}
	if sum, _ := l.preference(t, "prefer/vanilla/base/vs/vanilla/sft"); sum.Ties != judgedReplies || sum.WinRate != 0.5 {
		t.Errorf("equal replies sum up to %+v, want ties alone and a win rate of 0.5", sum)
	}
}

// A turn that the model declines to compare counts nowhere, within bounds.
func TestPreferUnjudged(t *testing.T) {
	s := chattest.New(t)
	all := newLab(t, s, comparisons)
	if _, err := all.run(preferStage); err != nil {
		t.Fatal(err)
	}
	asked := s.Requests()[0].Messages[1].Content
	s.Set(func(r chattest.Request, _ int) chattest.Fault {
		if r.Messages[1].Content == asked {
			return chattest.Refused
		}
		return chattest.None
	})
	l := newLab(t, s, comparisons, "judge.max_unjudged=0.05")
	if _, err := l.run(preferStage); errorType(err) != "Judge" {
		t.Errorf("too many turns without a verdict: got %v, want an error of type Judge", err)
	}
	l.access.MaxUnjudged = 0.1
	if _, err := l.run(preferStage); err != nil {
		t.Fatal(err)
	}
	if sum, _ := l.preference(t, preferStage); sum.Unjudged != 1 || sum.Wins+sum.Ties+sum.Losses != judgedReplies-1 || sum.Samples != judgedReplies-1 {
		t.Errorf("the sum is %+v, want one turn without a verdict and the others counted", sum)
	}
}

// The offline judge prefers by the sum of its scores, and calls less than a
// point of difference a tie.
func TestPreferOffline(t *testing.T) {
	l := newLab(t, chattest.New(t), comparisons, "judge.kind=offline")
	if _, err := l.run(preferStage); err != nil {
		t.Fatal(err)
	}
	sum, rows := l.preference(t, preferStage)
	if sum.Judge != judge.OfflineName || sum.Samples != judgedReplies {
		t.Errorf("the sum is %+v, want the offline judge's of all replies", sum)
	}
	for _, row := range rows {
		if !slices.Contains([]float64{0, 0.5, 1}, row.First) {
			t.Errorf("it has no order to be misled by: %+v", row)
		}
	}
}

// mined commits pairs of the response generator: two of each of some turns.
func (l *testLab) minedPairs(t *testing.T) []esc.Pair {
	t.Helper()
	corpus, err := results.Open(t.Context(), l.a.Store, l.stages["corpus"].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	dialogues, err := results.ReadDialogues(corpus, results.FileTrain)
	if err != nil {
		t.Fatal(err)
	}
	turns := esc.AllTurns(dialogues)
	var pairs []esc.Pair
	for i := 0; i < 3*judgedReplies; i += 3 {
		for draw := range 2 {
			pairs = append(pairs, esc.Pair{Dialogue: turns[i].Dialogue, Turn: turns[i].Index, Draw: draw, Role: esc.RG, Errors: []esc.PsyError{esc.TemplateResponse},
				Gold: turns[i].Strategy, Strategy: turns[i].Strategy, Chosen: turns[i].Response, Rejected: turns[(i+7+draw)%len(turns)].Response})
		}
	}
	var data bytes.Buffer
	if err := esc.WritePairs(&data, pairs); err != nil {
		t.Fatal(err)
	}
	l.commit(t, "mine/rg", results.FilePairs, data.Bytes())
	return pairs
}

// The pairs' two sides are scored, as many as judge.samples says; faults change
// nothing.
func TestQualityStage(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s)
	pairs := l.minedPairs(t)
	want, err := l.run(qualityStage)
	if err != nil {
		t.Fatal(err)
	}
	rows := decoded[results.ScoredPair](t, l.read(t, qualityStage, results.FileScoredPairs))
	var sum results.Quality
	if err := json.Unmarshal(l.read(t, qualityStage, results.FileQuality), &sum); err != nil {
		t.Fatal(err)
	}
	var chosen, rejected float64
	for i, row := range rows {
		if !slices.ContainsFunc(pairs, func(p esc.Pair) bool { return p.Dialogue == row.Dialogue && p.Turn == row.Turn && p.Draw == row.Draw }) {
			t.Errorf("no such pair: %+v", row)
		}
		if i > 0 && (row.Dialogue < rows[i-1].Dialogue || row == rows[i-1]) {
			t.Errorf("out of order: %+v", row)
		}
		chosen += row.Chosen.Empathy / float64(len(rows))
		rejected += row.Rejected.Helpfulness / float64(len(rows))
	}
	if len(rows) != judgedReplies || sum.Samples != judgedReplies || sum.Role != esc.RG || want.Metrics["pairs"] != judgedReplies ||
		math.Abs(sum.Chosen.Empathy-chosen) > 1e-12 || math.Abs(sum.Rejected.Helpfulness-rejected) > 1e-12 || sum.Chosen == sum.Rejected {
		t.Errorf("%d rows, %+v", len(rows), sum)
	}
	// Two pairs of a turn have one chosen response, which is asked about once.
	places := map[esc.Place]bool{}
	for _, row := range rows {
		places[esc.Place{Dialogue: row.Dialogue, Turn: row.Turn}] = true
	}
	if n := len(s.Requests()); n != judgedReplies+len(places) {
		t.Errorf("%d requests for %d pairs of %d turns", n, judgedReplies, len(places))
	}

	s.Set(chattest.Faulty)
	shaky := newLab(t, s)
	shaky.minedPairs(t)
	if got, err := shaky.run(qualityStage); err != nil || got.Digest != want.Digest {
		t.Errorf("faults changed the artifact: %s and %s (%v)", got.Digest, want.Digest, err)
	}
	shaky.noCanary(t)

	everything := newLab(t, s, "judge.kind=offline", "judge.samples=0")
	everything.minedPairs(t)
	if got, err := everything.run(qualityStage); err != nil || got.Metrics["pairs"] != float64(len(pairs)) {
		t.Errorf("all pairs: %v, %v", got.Metrics, err)
	}
}

// A judge of judge.also compares and scores the same turns and pairs as the
// experiment's own, and the report reads each from its own stages.
func TestOtherJudgesCompareAndScore(t *testing.T) {
	l := newLab(t, chattest.New(t), comparisons, "judge.also=[{name: second, kind: offline}]")
	l.minedPairs(t)
	in := workflows.StageInput{Inputs: map[string]string{}}
	for _, stage := range []string{preferStage, "prefer/by/second/vanilla/base/vs/decoupled/sft", qualityStage, "quality/by/second/rg"} {
		if _, err := l.run(stage); err != nil {
			t.Fatal(err)
		}
		in.Inputs[stage] = l.stages[stage].Fingerprint
	}
	params, err := experiments.ParamsOf[experiments.ReportParams](l.stages["report"])
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{attempt: &attempt{a: l.a, dir: t.TempDir(), inputs: map[string]string{}, in: in, pulse: &pulse{}}, params: params, seeds: []uint64{params.Seed}}
	var wins []report.Wins
	var scored []report.Quality
	for _, c := range []struct{ by, name string }{{"", "test (prompts "}, {"second", judge.OfflineName}} {
		w, err := r.winsBy(t.Context(), c.by)
		if err != nil {
			t.Fatal(err)
		}
		q, err := r.qualityBy(t.Context(), c.by)
		if err != nil {
			t.Fatal(err)
		}
		if len(w) != 1 || !strings.HasPrefix(w[0].By, c.name) || w[0].Samples != judgedReplies || w[0].Systems != [2]string{"vanilla/base", "decoupled/sft"} {
			t.Errorf("comparisons by %q: %+v, want one of vanilla/base and decoupled/sft by %s at %d turns", c.by, w, c.name, judgedReplies)
		}
		if len(q) != 1 || !strings.HasPrefix(q[0].Judge, c.name) || q[0].Samples != judgedReplies || q[0].Role != esc.RG {
			t.Errorf("scores by %q: %+v, want those of %d pairs of rg by %s", c.by, q, judgedReplies, c.name)
		}
		wins, scored = append(wins, w...), append(scored, q...)
	}
	if *wins[0].Questions[0].Win == *wins[1].Questions[0].Win || scored[0].Chosen == scored[1].Chosen {
		t.Errorf("both judges say the same: %+v, %+v", wins, scored)
	}
}

// Which pairs are drawn depends on the seed and their places alone.
func TestDrawPairs(t *testing.T) {
	var pairs []esc.Pair
	for i := range 40 {
		pairs = append(pairs, esc.Pair{Dialogue: i / 4, Turn: i % 4, Draw: i % 2})
	}
	drawn := drawPairs(pairs, 10, 7)
	if len(drawn) != 10 || !slices.IsSortedFunc(drawn, func(a, b esc.Pair) int { return 4*(a.Dialogue-b.Dialogue) + a.Turn - b.Turn }) {
		t.Errorf("drawn are %+v, want 10 pairs in their order", drawn)
	}
	same := func(a, b []esc.Pair) bool {
		return slices.EqualFunc(a, b, func(p, q esc.Pair) bool { return p.Dialogue == q.Dialogue && p.Turn == q.Turn })
	}
	reversed := slices.Clone(pairs)
	slices.Reverse(reversed)
	again := drawPairs(reversed, 10, 7)
	slices.Reverse(again)
	if !same(again, drawn) {
		t.Error("the order of the pairs counts")
	}
	if same(drawPairs(pairs, 10, 8), drawn) {
		t.Error("the seed does not count")
	}
	if len(drawPairs(pairs, 0, 7)) != 40 || len(drawPairs(pairs, 99, 7)) != 40 {
		t.Error("pairs are lost")
	}
}
