package human

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/metrics"
)

// world is a test split of n turns that two systems answered.
func world(n int) (systems [2]System, replies [2][]Reply, turns []esc.Turn) {
	systems = [2]System{{"demo", "decoupled/dpo", "aa"}, {"demo", "vanilla/dpo", "bb"}}
	for i := range n {
		turns = append(turns, esc.Turn{Dialogue: i / 3, Index: i % 3, Context: []esc.Message{
			{Role: esc.UserRole, Content: "Hi"}, {Role: esc.AssistantRole, Content: "[Question] How are\nyou, \"friend\"?"}, {Role: esc.UserRole, Content: "=SUM(A1)"},
		}})
		for s := range replies {
			replies[s] = append(replies[s], Reply{i / 3, i % 3, fmt.Sprintf("=%s says %d; so, there", systems[s].Name, i)})
		}
	}
	return systems, replies, turns
}

func draw(t *testing.T, n int, seed uint64) (Key, []Sample) {
	t.Helper()
	systems, replies, turns := world(60)
	key, samples, err := Draw(systems, replies, turns, n, seed)
	if err != nil {
		t.Fatal(err)
	}
	return key, samples
}

func TestDraw(t *testing.T) {
	key, samples := draw(t, 21, 1)
	again, _ := draw(t, 21, 1)
	other, _ := draw(t, 21, 2)
	if !reflect.DeepEqual(key, again) {
		t.Error("the same seed draws other samples")
	}
	if slices.Equal(key.Samples, other.Samples) || key.Samples[0].ID == other.Samples[0].ID {
		t.Error("another seed draws the same sheet")
	}
	first := 0
	for i, p := range key.Samples {
		if p.A == 0 {
			first++
		}
		of := [2]string{"decoupled/dpo", "vanilla/dpo"}
		if s := samples[i]; s.ID != p.ID || !strings.Contains(s.A, of[p.A]) || !strings.Contains(s.B, of[1-p.A]) ||
			!strings.HasSuffix(s.A, fmt.Sprintf(" %d; so, there", 3*p.Dialogue+p.Turn)) {
			t.Errorf("sample %+v does not fit the key %+v", s, p)
		}
	}
	if first != 10 {
		t.Errorf("the first system is A %d times of 21", first)
	}
	systems, replies, turns := world(60)
	if _, _, err := Draw(systems, [2][]Reply{replies[0][:30], replies[1][20:]}, turns, 11, 1); err == nil || !strings.Contains(err.Error(), "10 turns in common") {
		t.Errorf("too few common turns: %v", err)
	}
	if _, _, err := Draw([2]System{systems[0], systems[0]}, replies, turns, 5, 1); err == nil {
		t.Error("a system against itself: no error")
	}
}

// sheet writes the sheet and parses it as a spreadsheet would.
func sheet(t *testing.T, key Key, samples []Sample, separator rune) [][]string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteSheet(&b, samples, key.Asked, separator); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(b.Bytes(), []byte("\xef\xbb\xbfsample")) {
		t.Errorf("the sheet begins with %q", b.Bytes()[:12])
	}
	r := csv.NewReader(bytes.NewReader(b.Bytes()[3:]))
	r.Comma = separator
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestSheetIsBlindAndInert(t *testing.T) {
	systems, replies, turns := world(60)
	for s := range replies {
		for i := range replies[s] {
			replies[s][i].Text = []string{"=HYPERLINK(\"x\")", " +1 that", "@you", "\tx", "fine"}[(i+s)%5]
		}
	}
	key, samples, err := Draw(systems, replies, turns, 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	rows := sheet(t, key, samples, ',')
	want := []string{"sample", "conversation", "reply A", "reply B", "fluency", "professionalism", "empathy", "helpfulness", "comment"}
	if !slices.Equal(rows[0], want) || len(rows) != 11 {
		t.Fatalf("%d rows, head %q", len(rows), rows[0])
	}
	for _, row := range rows[1:] {
		if row[1] != "Seeker: Hi\nSupporter: How are\nyou, \"friend\"?\nSeeker: =SUM(A1)" {
			t.Errorf("conversation %q", row[1])
		}
		for _, cell := range row {
			if c := strings.TrimLeft(cell, " "); c != "" && strings.ContainsAny(c[:1], "=+-@\t\r") {
				t.Errorf("a spreadsheet would compute %q", cell)
			}
			for _, tells := range []string{"decoupled", "vanilla", "dpo", "[Question]"} {
				if strings.Contains(cell, tells) {
					t.Errorf("the sheet tells %q: %q", tells, cell)
				}
			}
		}
	}
}

// fill answers each row of a sheet and gives the file that the rater saves.
func fill(rows [][]string, answer func(sample, question int) string, separator rune) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = separator
	for i, row := range rows {
		row = slices.Clone(row)
		for q := range 4 {
			if i > 0 {
				row[4+q] = answer(i-1, q)
			}
		}
		_ = w.Write(row) // into memory
	}
	w.Flush()
	return b.Bytes()
}

// Raters with sheets in every shape that spreadsheets save: the answers are
// unblinded, counted, and compared.
func TestRoundTrip(t *testing.T) {
	key, samples := draw(t, 8, 5)
	var file bytes.Buffer
	if err := WriteKey(&file, key); err != nil {
		t.Fatal(err)
	}
	key, err := ReadKey("key.json", &file)
	if err != nil {
		t.Fatal(err)
	}
	rows := sheet(t, key, samples, ';')
	sides := func(sample int, first bool) string { // the letter of a system's reply
		if (key.Samples[sample].A == 0) == first {
			return "A"
		}
		return "B"
	}
	// Anna prefers the first system throughout, but in samples 6 and 7: a tie and a loss.
	anna := func(sample, _ int) string {
		switch sample {
		case 6:
			return "Tie"
		case 7:
			return sides(sample, false)
		}
		return sides(sample, true)
	}
	// Ben as Anna, but he turns sample 0 round, and leaves sample 1 and all of the last question empty.
	ben := func(sample, q int) string {
		switch {
		case sample == 1 || q == 3:
			return ""
		case sample == 0:
			return " " + strings.ToLower(sides(sample, false)) + " "
		}
		return "reply " + anna(sample, q)
	}
	utf := append([]byte{0xff, 0xfe}, func() (b []byte) {
		for _, u := range utf16.Encode([]rune(string(fill(rows, ben, '\t')))) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return b
	}()...)
	var sheets []Ratings
	for name, data := range map[string][]byte{"anna.csv": append([]byte(bom), fill(rows, anna, ',')...), "ben.csv": utf} {
		r, err := ReadSheet(name, name, bytes.NewReader(data), key)
		if err != nil {
			t.Fatal(err)
		}
		sheets = append(sheets, r)
	}
	results, err := Evaluate(t.Context(), key, sheets, 1)
	if err != nil {
		t.Fatal(err)
	}
	fluency, helpful, all := results.Questions[0], results.Questions[3], results.Questions[4]
	// Fluency: Anna 6 wins, 1 tie, 1 loss; Ben 4 wins, 1 tie, 2 losses.
	if fluency.Answers != 15 || fluency.Win.Estimate != 10.0/15 || fluency.Tie.Estimate != 2.0/15 || fluency.Loss.Estimate != 3.0/15 {
		t.Errorf("fluency %+v", fluency)
	}
	if fluency.Win.Low > fluency.Win.Estimate || fluency.Win.High < fluency.Win.Estimate || fluency.Win.Low == fluency.Win.High {
		t.Errorf("interval of the wins %+v", fluency.Win)
	}
	// Seven common samples: six agree; chance (5·4 + 1·1 + 1·2)/49 = 23/49; (42 - 23)/(49 - 23).
	if fluency.Rated != 7 || fluency.Agreement == nil || math.Abs(*fluency.Agreement-19.0/26) > 1e-12 {
		t.Errorf("kappa of fluency %v of %d", fluency.Agreement, fluency.Rated)
	}
	if helpful.Answers != 8 || helpful.Agreement != nil {
		t.Errorf("a question that one of two answered: %+v", helpful)
	}
	if all.Question != All || all.Answers != 3*15+8 || all.Rated != 21 {
		t.Errorf("all %+v", all)
	}
	if results.Statistic != "Cohen's kappa" || len(results.Notes) != 1 || !strings.Contains(results.Notes[0], "11 of 32") {
		t.Errorf("%q, notes %q", results.Statistic, results.Notes)
	}
	if md := results.Markdown(); !strings.Contains(md, "| fluency | 15 | 66.7 [") || !strings.Contains(md, "| 0.73 |") {
		t.Error(md)
	}

	// A third rater who answers nothing counts for nothing; the statistic is another.
	silent, err := ReadSheet("carl.csv", "carl", bytes.NewReader(fill(rows, func(int, int) string { return "" }, ';')), key)
	if err != nil {
		t.Fatal(err)
	}
	results, err = Evaluate(t.Context(), key, append(sheets, silent), 1)
	if err != nil {
		t.Fatal(err)
	}
	if q := results.Questions[0]; q.Answers != 15 || q.Rated != 14 || q.Agreement == nil || results.Statistic != "Krippendorff's alpha" {
		t.Errorf("three raters: %+v", q)
	}
	results, err = Evaluate(t.Context(), key, []Ratings{silent}, 1)
	if q := results.Questions[0]; err != nil || q.Win != nil || q.Agreement != nil || q.Cells()[2] != "–" {
		t.Errorf("no answer at all: %+v, %v", q, err)
	}
}

// Each bad cell is told with its file, row and column, all at once.
func TestBadSheets(t *testing.T) {
	key, samples := draw(t, 5, 1)
	rows := sheet(t, key, samples, ',')
	good := fill(rows, func(int, int) string { return "A" }, ',')
	for _, c := range []struct {
		name string
		data []byte
		says []string
	}{
		{"bad cells", fill(rows, func(sample, q int) string {
			if sample == 2 && q > 1 {
				return "C"
			}
			return "b"
		}, ','), []string{`f.csv: row 4, column "empathy": "C" is no answer`, `row 4, column "helpfulness"`}},
		{"another key's sheet", bytes.ReplaceAll(good, []byte(key.Samples[1].ID), []byte("sffff-2")), []string{`row 3, column "sample"`, "another sheet's"}},
		{"a row twice", bytes.ReplaceAll(good, []byte(key.Samples[1].ID), []byte(key.Samples[0].ID)), []string{`row 3, column "sample"`, "row 2 already"}},
		{"answers without a sample", bytes.ReplaceAll(good, []byte(key.Samples[4].ID), nil), []string{`row 6, column "sample": it is empty`}},
		{"a column gone", bytes.Replace(good, []byte("empathy"), []byte("empaty"), 1), []string{"row 1", `no column "empathy"`}},
		{"a column twice", bytes.Replace(good, []byte("comment"), []byte("Empathy"), 1), []string{`"empathy" stands twice`}},
		{"not CSV", []byte("sample,\"fluency\nx"), []string{"f.csv", "not CSV"}},
		{"nothing", nil, []string{"empty"}},
	} {
		_, err := ReadSheet("f.csv", "f", bytes.NewReader(c.data), key)
		for _, want := range c.says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
	}
	// Rows in another order, one of them gone, and a column that the rater added.
	lines := slices.Clone(rows)
	slices.Reverse(lines[1:])
	r, err := ReadSheet("f.csv", "f", bytes.NewReader(fill(lines[:5], func(int, int) string { return "tie" }, ',')), key)
	if err != nil || r.Answers[0][0] != metrics.Missing || r.Answers[0][4] != Tie {
		t.Errorf("a sorted sheet without its last row: %v, %v", r.Answers, err)
	}
}

func TestReadKeyRefuses(t *testing.T) {
	key, _ := draw(t, 3, 1)
	for name, spoil := range map[string]func(*Key){
		"version": func(k *Key) { k.Version = 2 },
		"empty":   func(k *Key) { k.Samples = nil },
		"twice":   func(k *Key) { k.Samples = append(slices.Clone(k.Samples), k.Samples[0]) },
		"side":    func(k *Key) { k.Samples = []Placed{{ID: "x", A: 2}} },
	} {
		bad := key
		spoil(&bad)
		var b bytes.Buffer
		if err := WriteKey(&b, bad); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey("key.json", &b); err == nil || !strings.Contains(err.Error(), "key.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadKey("key.json", strings.NewReader(`{"samplez": 1}`)); err == nil {
		t.Error("another file is taken for a key")
	}
}
