package esc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const oneDialogue = `{"experience_type":"Current","emotion_type":"anxiety","problem_type":"job crisis","situation":"Rent is due.",
 "survey_score":{"seeker":{"empathy":"5"}},"seeker_question1":null,"extra":[1,-2.5e3,true,{"a":"b"}],
 "dialog":[{"speaker":"seeker","annotation":{"feedback":"4"},"content":" Hello \n"},
  {"speaker":"supporter","annotation":{"strategy":"Question"},"content":"What brings you here\u003f \ud83d\ude42","more":1}]}`

func read(text string) ([]Dialogue, error) {
	return ReadDialogues("corpus.json", strings.NewReader(text), DefaultLimits())
}

func TestReadDialogues(t *testing.T) {
	for name, text := range map[string]string{"plain": "[" + oneDialogue + "]", "byte order mark": "\xef\xbb\xbf[" + oneDialogue + "]\n"} {
		got, err := read(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []Dialogue{{0, "Current", "anxiety", "job crisis", "Rent is due.", []Utterance{
			{Seeker, NoStrategy, "Hello"}, {Supporter, Question, "What brings you here? 🙂"}}}}
		if !sameDialogues(got, want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func utterance(speaker, strategy, content string) string {
	data, _ := json.Marshal(map[string]any{"speaker": speaker, "annotation": map[string]string{"strategy": strategy}, "content": content})
	return string(data)
}

func dialogOf(utterances ...string) string {
	return `{"dialog":[` + strings.Join(utterances, ",") + `]}`
}

func TestBadInput(t *testing.T) {
	hi, ask := `{"speaker":"seeker","annotation":{},"content":"hi"}`, utterance("supporter", "Question", "How are you?")
	good := dialogOf(hi, ask)
	for _, c := range []struct {
		name, text     string
		dialogue, turn int
		words          []string
	}{
		{"nothing", "", -1, -1, []string{"empty"}},
		{"only a byte order mark", "\xef\xbb\xbf", -1, -1, []string{"empty"}},
		{"UTF-16", "\xff\xfe[\x00", -1, -1, []string{"UTF-16"}},
		{"an object", "{}", -1, -1, []string{"list of dialogues"}},
		{"no dialogues", "[ ]", -1, -1, []string{"no dialogues"}},
		{"truncated in the list", "[" + good, -1, -1, []string{"truncated", "line 1"}},
		{"truncated in a turn", "[" + good + ",\n" + good[:len(good)-9], 1, 1, []string{"truncated", "line 2", "byte"}},
		{"truncated in an escape", "[" + `{"dialog":[{"content":"\u00`, 0, 0, []string{"truncated"}},
		{"two documents", "[" + good + "][" + good + "]", -1, -1, []string{"one JSON document"}},
		{"missing comma", "[" + good + good + "]", -1, -1, []string{"belongs"}},
		{"unknown strategy", "[" + good + "," + dialogOf(hi, ask, utterance("supporter", "Providing Sugestions", "x")) + "]", 1, 2,
			[]string{`"Providing Sugestions"`, `"Providing Suggestions"`}},
		{"no strategy", "[" + dialogOf(hi, `{"speaker":"supporter","content":"x"}`) + "]", 0, 1, []string{"no strategy"}},
		{"null annotation", "[" + dialogOf(hi, `{"speaker":"supporter","annotation":null,"content":"x"}`) + "]", 0, 1, []string{"no strategy"}},
		{"empty dialogue", "[" + good + "," + dialogOf() + "]", 1, -1, []string{"empty"}},
		{"no dialog key", "[{}]", 0, -1, []string{`"dialog" is missing`}},
		{"null dialogue", "[null]", 0, -1, []string{"belongs"}},
		{"no seeker", "[" + dialogOf(ask) + "]", 0, -1, []string{"seeker"}},
		{"no supporter", "[" + dialogOf(hi) + "]", 0, -1, []string{"supporter"}},
		{"unknown speaker", "[" + dialogOf(hi, utterance("listener", "Question", "x")) + "]", 0, 1, []string{`"listener"`}},
		{"empty text", "[" + dialogOf(hi, utterance("supporter", "Question", " \n")) + "]", 0, 1, []string{"text is empty"}},
		{"null text", "[" + dialogOf(hi, `{"speaker":"seeker","content":null}`) + "]", 0, 1, []string{"content"}},
		{"number as text", "[" + dialogOf(`{"speaker":"seeker","content":5}`) + "]", 0, 0, []string{"content"}},
		{"repeated key", "[" + dialogOf(`{"speaker":"seeker","content":"a","content":"b"}`) + "]", 0, 0, []string{"twice"}},
		{"latin-1", "[" + dialogOf(hi, "{\"speaker\":\"seeker\",\"content\":\"caf\xe9\"}") + "]", 0, 1, []string{"UTF-8"}},
		{"control character", "[" + dialogOf("{\"speaker\":\"seeker\",\"content\":\"a\nb\"}") + "]", 0, 0, []string{"control character"}},
		{"10 MB of one turn", "[" + good + "," + dialogOf(hi, ask, utterance("seeker", "", strings.Repeat("a", 10<<20))) + "]", 1, 2, []string{"limit of 65536 bytes"}},
		{"deep nesting", `[{"extra":` + strings.Repeat("[", 1<<20), 0, -1, []string{"deeper"}},
		{"too many turns", "[" + dialogOf(strings.Split(strings.Repeat(hi+"\n", 5000), "\n")[:5000]...) + "]", 0, 4096, []string{"4096 turns"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(c.text)
			var fault *DataError
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a *DataError", err)
			}
			if fault.Dialogue != c.dialogue || fault.Turn != c.turn || !strings.HasPrefix(err.Error(), "corpus.json: ") {
				t.Errorf("dialogue %d, turn %d, want %d, %d: %v", fault.Dialogue, fault.Turn, c.dialogue, c.turn, err)
			}
			for _, word := range c.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if len(err.Error()) > 400 {
				t.Errorf("an error of %d characters", len(err.Error()))
			}
		})
	}
}

// endless yields a corpus whose one turn never ends; it counts what is read.
type endless struct{ head, read int }

func (e *endless) Read(p []byte) (int, error) {
	const head = `[{"dialog":[{"speaker":"seeker","content":"`
	n := copy(p, head[min(e.head, len(head)):])
	e.head += n
	for i := n; i < len(p); i++ {
		p[i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func TestLimitsHoldBeforeMemoryIsSpent(t *testing.T) {
	source := &endless{}
	if _, err := ReadDialogues("endless", source, DefaultLimits()); err == nil || !strings.Contains(err.Error(), "turn 0") {
		t.Errorf("got %v", err)
	}
	if source.read > 1<<20 {
		t.Errorf("read %d bytes of one endless turn", source.read)
	}
	limits := DefaultLimits()
	limits.FileBytes = 1000
	long := "[" + oneDialogue + strings.Repeat(","+oneDialogue, 9) + "]"
	if _, err := ReadDialogues("long", strings.NewReader(long), limits); err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "long.json")
	if err := os.WriteFile(path, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, limits); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	failing := io.MultiReader(strings.NewReader(`[{"dialog":[`), failingReader{})
	if _, err := ReadDialogues("failing", failing, DefaultLimits()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

var errBroken = errors.New("broken disk")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }

func TestWriteReadRoundTrip(t *testing.T) {
	want, err := read("[" + oneDialogue + "," + dialogOf(utterance("seeker", "", "a <b> & \"c\" \u2028 ünï 🙂"), utterance("supporter", "others", "ok")) + "]")
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := WriteDialogues(w, want); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two writes differ")
	}
	got, err := read(first.String())
	if err != nil || !sameDialogues(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzReadDialogues(f *testing.F) {
	f.Add("[" + oneDialogue + "]")
	f.Add(`[{"dialog":[{"speaker":"seeker","content":"\ud83d\ude00\ud800 \u00e9\/"},{"speaker":"supporter","annotation":{"strategy":"OTHERS"},"content":"é🙂"}]}]`)
	f.Add("\xef\xbb\xbf[ {\"x\":-0.5E+3,\"dialog\":[]}]")
	f.Add(`[{"dialog":[{"speaker":"supporter","annotation":{"strategy":"Suggestion"}`)
	limits := Limits{FileBytes: 1 << 20, TextBytes: 1 << 10, Turns: 64, Dialogues: 64}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ReadDialogues("fuzz.json", strings.NewReader(text), limits)
		if err != nil {
			var fault *DataError
			if !errors.As(err, &fault) || fault.Offset > int64(len(text)) {
				t.Fatalf("error %v, want a DataError at an offset within %d bytes", err, len(text))
			}
			return
		}
		// What we accept, encoding/json accepts and reads alike.
		var plain []struct {
			Dialog []struct{ Content string }
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "\xef\xbb\xbf")), &plain); err == nil && !caseTwins(text) {
			for i, d := range got {
				for j, u := range d.Utterances {
					if want := strings.TrimSpace(plain[i].Dialog[j].Content); u.Text != want {
						t.Fatalf("dialogue %d, turn %d: %q, encoding/json reads %q", i, j, u.Text, want)
					}
				}
			}
		} else if !json.Valid([]byte(strings.TrimPrefix(text, "\xef\xbb\xbf"))) {
			t.Fatal("accepted what is not JSON")
		}
		// And what we write, we read back.
		var out bytes.Buffer
		if err := WriteDialogues(&out, got); err != nil {
			t.Fatal(err)
		}
		again, err := ReadDialogues("again.json", &out, DefaultLimits())
		if err != nil || !sameDialogues(again, got) {
			t.Fatalf("written and read back: %v\n%v\n%v", err, got, again)
		}
		for _, d := range got {
			if turns := Turns(d); len(turns) == 0 || len(Chat(d)) != 2*len(turns) {
				t.Fatalf("%d turns of %d messages", len(turns), len(Chat(d)))
			}
		}
	})
}

// caseTwins reports keys that encoding/json folds together and we do not.
func caseTwins(text string) bool {
	folded := strings.ToLower(text)
	return strings.Contains(text, `\u`) || strings.Count(folded, `"content"`) != strings.Count(text, `"content"`) ||
		strings.Count(folded, `"dialog"`) != strings.Count(text, `"dialog"`) || strings.ContainsAny(text, "ſK")
}

func ExampleReadDialogues() {
	_, err := ReadDialogues("corpus.json", strings.NewReader(`[{"dialog": [
 {"speaker": "seeker", "annotation": {}, "content": "hello"},
 {"speaker": "supporter", "annotation": {"strategy": "Qestion"}, "content": "How are you?"}
]}]`), DefaultLimits())
	fmt.Println(err)
	// Output: corpus.json: dialogue 0, turn 1 (counted from 0), line 3, byte 167: unknown strategy "Qestion"; the nearest known strategy is "Question"
}
