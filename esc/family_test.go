package esc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// turn is an utterance as a corpus of the family writes it.
func turn(speakerKey, speaker, textKey, text, strategy string) string {
	keys := map[string]any{speakerKey: speaker, textKey: text}
	if strategy != "" {
		keys["strategy"] = strategy
	}
	data, _ := json.Marshal(keys)
	return string(data)
}

// TestCorporaOfTheFamily: other names of speakers and keys, and JSON lines, give
// what ESConv's own layout gives.
func TestCorporaOfTheFamily(t *testing.T) {
	esconv := func(seeker, supporter string) string {
		return dialogOf(utterance(seeker, "", "I lost my cat."), utterance(supporter, "Question", "When?"), utterance(seeker, "", "Today."))
	}
	flat := func(list, speakerKey, textKey, seeker, supporter string) string {
		return fmt.Sprintf(`{"emotion_type":"sadness","%s":[%s,%s,%s]}`, list, turn(speakerKey, seeker, textKey, "I lost my cat.", ""),
			turn(speakerKey, supporter, textKey, "When?", "question"), turn(speakerKey, seeker, textKey, " Today.\n", ""))
	}
	cases := map[string]string{
		"speaker and listener":             "[" + esconv("speaker", "listener") + "]",
		"User and Assistant":               "[" + esconv("User", "Assistant") + "]",
		"client and counsellor":            "[" + esconv("client", "Counsellor") + "]",
		"patient and therapist":            "[" + esconv("patient", "therapist") + "]",
		"Help-Seeker and helper":           "[" + esconv("Help-Seeker", "helper") + "]",
		"support_seeker and supporter":     "[" + esconv("support_seeker", " supporter ") + "]",
		"preprocessed ESConv":              flat("dialog", "speaker", "text", "usr", "sys"),
		"chat messages":                    "[" + flat("messages", "role", "content", "user", "assistant") + "]",
		"a conversation":                   "[" + flat("conversation", "role", "utterance", "human", "assistant") + "]",
		"a dialogue with another dialog":   `[` + strings.Replace(flat("dialogue", "speaker", "text", "usr", "sys"), "{", `{"messages":"none","conversation":7,`, 1) + `]`,
		"content counts, not text":         "[" + strings.ReplaceAll(esconv("seeker", "supporter"), `{"annotation"`, `{"text":"tokens","annotation"`) + "]",
		"an annotated strategy counts":     "[" + strings.ReplaceAll(esconv("usr", "sys"), `{"annotation"`, `{"strategy":"Others","annotation"`) + "]",
		"a line":                           esconv("seeker", "supporter"),
		"a line and its end":               esconv("usr", "sys") + "\n",
		"a line, a mark and blank lines":   "\xef\xbb\xbf\r\n" + esconv("usr", "sys") + " \r\n\r\n \n",
		"a strategy that is no text aside": "[" + strings.Replace(esconv("usr", "sys"), `{"annotation":{"strategy":""}`, `{"strategy":null,"annotation":{"strategy":3}`, 1) + "]",
	}
	want := []Utterance{{Seeker, NoStrategy, "I lost my cat."}, {Supporter, Question, "When?"}, {Seeker, NoStrategy, "Today."}}
	for name, text := range cases {
		got, err := read(text)
		if err != nil || len(got) != 1 || !sameDialogues(got, []Dialogue{{EmotionType: got[0].EmotionType, Utterances: want}}) {
			t.Errorf("%s: got %+v, %v; want one dialogue of the three utterances", name, got, err)
		}
	}
	both := esconv("usr", "sys") + "\r\n\r\n" + esconv("speaker", "listener") + "\n" + esconv("seeker", "supporter")
	got, err := read(both)
	if err != nil || len(got) != 3 || got[2].Index != 2 {
		t.Errorf("three lines: got %+v, %v; want three dialogues, numbered", got, err)
	}
}

// TestCorporaRefused: what of the family is refused, with file and line.
func TestCorporaRefused(t *testing.T) {
	hi, ask := utterance("usr", "", "hi"), utterance("sys", "Question", "How are you?")
	good := dialogOf(hi, ask)
	for name, c := range map[string]struct {
		text string
		line int
		want string
	}{
		"a list cut into lines":       {good + "\n{\"dialog\":[" + hi + ",\n" + ask + "]}", 2, "the line ends inside a dialogue"},
		"a line end in a text":        {good + "\r\n\r\n" + strings.Replace(good, "hi", "h\ni", 1), 3, "the line ends inside a dialogue"},
		"a line cut short":            {good + "\n" + good[:len(good)-4] + "\n" + good, 2, "the line ends inside a dialogue"},
		"the last line cut short":     {good + "\n\n" + good[:len(good)-4], 3, "truncated"},
		"commas between lines":        {good + ",\n" + good, 1, "found ',' after a dialogue"},
		"two dialogues on a line":     {good + "\n" + good + " " + good, 2, "found '{' after a dialogue"},
		"a list among the lines":      {good + "\n[" + good + "]", 2, "found '['"},
		"an empty turn":               {good + "\n" + dialogOf(hi, utterance("assistant", "Others", "\u00a0 \n")), 2, "turn 1 (counted from 0), line 2"},
		"an empty turn of the seeker": {good + "\n" + good + "\n" + dialogOf(utterance("user", "", ""), ask), 3, "the seeker's text is empty"},
		"no text at all":              {`{"dialog":[{"speaker":"usr"},` + ask + `]}`, 1, "the seeker's text is empty"},
		"a supporter alone":           {good + "\n" + dialogOf(ask, ask), 2, "no utterance of a seeker in 2"},
		"a seeker alone":              {"[" + good + ",\n" + dialogOf(hi, hi, hi) + "]", 2, "no utterance of a supporter in 3"},
		"a chat's system message":     {dialogOf(utterance("system", "", "Be kind."), hi, ask), 1, "remove a chat's system message"},
		"a third speaker":             {good + "\n" + dialogOf(hi, utterance("moderator", "", "Hello."), ask), 2, `unknown speaker "moderator"; it is one of client, help`},
		"two lists of utterances":     {`{"dialog":[` + hi + "," + ask + `],"messages":[` + hi + `]}`, 1, `"dialog" and "messages" both hold utterances`},
		"a strategy given twice":      {"[" + dialogOf(hi, `{"speaker":"sys","content":"x","annotation":{"strategy":"Question","strategy":"Others"}}`) + "]", 1, `"strategy" is there twice`},
		"an annotation given twice":   {dialogOf(hi, `{"speaker":"sys","content":"x","annotation":{},"annotation":{"strategy":"Others"}}`), 1, `"annotation" is there twice`},
		"an empty emotion twice":      {`{"emotion_type":"","emotion_type":"fear","dialog":[` + hi + "," + ask + `]}`, 1, `"emotion_type" is there twice`},
		"a null emotion twice":        {`{"situation":null,"situation":"x","dialog":[` + hi + "," + ask + `]}`, 1, `"situation" is there twice`},
		"a flat strategy twice":       {dialogOf(hi, `{"speaker":"sys","text":"x","strategy":"Others","strategy":"Question"}`), 1, `"strategy" is there twice`},
	} {
		_, err := read(c.text)
		var fault *DataError
		if !errors.As(err, &fault) || fault.Line != c.line || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v; want an error of corpus.json, line %d, that says %q on one line", name, err, c.line, c.want)
		}
	}
}

// TestStrategies: names that are none of the eight are mapped, or one error that
// counts and lists them all.
func TestStrategies(t *testing.T) {
	hi := utterance("speaker", "", "hi")
	say := func(strategies ...string) string {
		turns := []string{hi}
		for _, s := range strategies {
			turns = append(turns, utterance("listener", s, "Hm."))
		}
		return dialogOf(turns...)
	}
	path := filepath.Join(t.TempDir(), "corpus.jsonl")
	text := strings.Join([]string{say("Question", "Open  questions", "open questions"), say("Chit-chat", "Others", ""), say("OPEN QUESTIONS", "Information")}, "\n")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	source := Source{Path: path, Seed: 1}
	for _, c := range []struct {
		name    string
		mapping map[string]Strategy
		want    []string // of the error
		counts  map[Strategy]int
	}{
		{"none mapped", nil, []string{"line 1", `unknown strategy "open questions" (1 turn`, `"Open questions" (1 turn`, `"OPEN QUESTIONS" (1 turn`,
			`"Chit-chat" (1 turn`, "no strategy (1 turn)", "corpus.strategies: {"}, nil},
		{"one mapped", map[string]Strategy{"Open Questions": Question}, []string{"dialogue 1, turn 1", "line 2", `"Chit-chat"`, "no strategy", `corpus.strategies: {"": Others}`}, nil},
		{"all but none", map[string]Strategy{"open questions": Question, " chit-chat": Others}, []string{"dialogue 1, turn 3", "no strategy (1 turn)"}, nil},
		{"all mapped", map[string]Strategy{"open questions": Question, "Chit-Chat": Others, "": Affirmation}, nil,
			map[Strategy]int{Question: 4, Others: 2, Affirmation: 1, Information: 1}},
		{"one of the eight stays", map[string]Strategy{"open questions": Question, "Chit-Chat": Others, "": Others, "Information": Question}, nil,
			map[Strategy]int{Question: 4, Others: 3, Information: 1}},
	} {
		source.Reading.Strategies = c.mapping
		corpus, err := ReadCorpus(source)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v; want one line that says %q", c.name, err, want)
			}
		}
		if c.want != nil {
			continue
		}
		got := map[Strategy]int{}
		for _, turn := range AllTurns(append(append(corpus.Train, corpus.Valid...), corpus.Test...)) {
			got[turn.Strategy]++
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.counts) {
			t.Errorf("%s: strategies %v, %v; want %v", c.name, got, err, c.counts)
		}
	}
	// The parts of a directory are listed together.
	dir := t.TempDir()
	for i, part := range []string{"train.json", "valid.jsonl", "test.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, part), []byte("["[:1-min(i, 1)]+say("Question", fmt.Sprint("Kind ", i))+"]"[:1-min(i, 1)]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ReadCorpus(Source{Path: dir})
	for i := range 3 {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`"Kind %d"`, i)) || !strings.Contains(err.Error(), "train.json: dialogue 0, turn 2") {
			t.Errorf("a directory: got %v; want all three names, placed in train.json", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "train.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCorpus(Source{Path: dir}); err == nil || !strings.Contains(err.Error(), "both train.json and train.jsonl") {
		t.Errorf("two files for train: got %v", err)
	}
}

func TestConsecutive(t *testing.T) {
	text := dialogOf(utterance("sys", "Others", "Hello."), utterance("sys", "Question", "How are you?"), utterance("usr", "", "Bad."),
		utterance("usr", "", "Really."), utterance("sys", "Information", "I see."), utterance("sys", "Information", "Go on."), utterance("sys", "Question", "Why?"))
	for _, c := range []struct {
		merge bool
		want  string
	}{
		{false, `[{supporter Others Hello.} {supporter Question How are you?} {seeker none Bad.} {seeker none Really.} ` +
			`{supporter Information I see.} {supporter Information Go on.} {supporter Question Why?}]`},
		{true, "[{supporter Others Hello.\nHow are you?} {seeker none Bad.} {seeker none Really.} {supporter Information I see.\nGo on.\nWhy?}]"},
	} {
		var s Survey
		got, err := s.read("c.json", strings.NewReader(text), Reading{Merge: c.merge, Limits: DefaultLimits()})
		if err != nil || len(got) != 1 || fmt.Sprint(got[0].Utterances) != c.want {
			t.Errorf("merge %v: got %v, %v\nwant %s", c.merge, got, err, c.want)
		}
		if s.Supporter != 5 || s.Consecutive != 3 || s.Differing != 2 {
			t.Errorf("merge %v: %+v; want 5 of the supporter, 3 after another, 2 of these with another strategy", c.merge, s)
		}
	}
	limits := DefaultLimits()
	limits.TextBytes = 18
	var s Survey
	if _, err := s.read("c.json", strings.NewReader(text), Reading{Merge: true, Limits: limits}); err == nil || !strings.Contains(err.Error(), "merged") {
		t.Errorf("a merged text of 19 bytes: got %v; want the limit of a text to hold after merging", err)
	}
}

// TestIntensities: one that is missing is not counted as 0, nor as anything else.
func TestIntensities(t *testing.T) {
	lines := []string{
		`"survey_score":{"seeker":{"initial_emotion_intensity":"5","empathy":"1","final_emotion_intensity":"2"},"supporter":{}}`,
		`"survey_score":{"seeker":{"initial_emotion_intensity":4}}`,
		`"survey_score":{"seeker":{"initial_emotion_intensity":" 3 ","final_emotion_intensity":null}}`,
		`"init_intensity":5,"final_intensity":4`,
		`"init_intensity":0,"final_intensity":0`,
		`"survey_score":{"seeker":{"initial_emotion_intensity":"","final_emotion_intensity":"none"}}`,
		`"survey_score":{"seeker":null}`,
		`"survey_score":"5"`,
		`"final_intensity":[1,{"a":2}]`,
		`"final_intensity":2.5`,
		`"situation":""`,
	}
	for i, line := range lines {
		lines[i] = "{" + line + "," + dialogOf(utterance("usr", "", "hi"), utterance("sys", "Others", "hi"))[1:]
	}
	var s Survey
	got, err := s.read("c.jsonl", strings.NewReader(strings.Join(lines, "\n")), Reading{Limits: DefaultLimits()})
	if err != nil || len(got) != len(lines) {
		t.Fatalf("%d dialogues, %v; want %d", len(got), err, len(lines))
	}
	if s.Before != (Intensities{Known: 4, Sum: 17}) || s.After != (Intensities{Known: 2, Sum: 6}) || s.After.Mean() != 3 {
		t.Errorf("before %+v, after %+v; want 4 of sum 17 and 2 of sum 6", s.Before, s.After)
	}
}

// TestFailedESConv: the authors' corpus of failed conversations, with the map
// that the presets show.
func TestFailedESConv(t *testing.T) {
	source := Source{Path: reference(t, "failed-esconv/FailedESConv.json"), Seed: 42}
	if _, err := ReadCorpus(source); err == nil || !strings.Contains(err.Error(), `unknown strategy "Questions" (520 turns`) ||
		!strings.Contains(err.Error(), `"Direct Guidance" (11 turns`) {
		t.Errorf("without a map: got %v; want Questions 520 times and Direct Guidance 11 times", err)
	}
	source.Reading.Strategies = map[string]Strategy{"Questions": Question, "Other": Others, "Direct Guidance": Suggestions,
		"Approval and Reassurance": Affirmation, "Restatement": Restatement}
	s, err := SurveyCorpus(source)
	if err != nil {
		t.Fatal(err)
	}
	if s.Dialogues != 196 || s.Seeker != 2853 || s.Supporter != 2377 || s.Consecutive != 398 || s.Differing != 275 ||
		s.Before.Known != 196 || s.After.Known != 142 || s.Mapped["Other"] != 400 || len(s.Mapped) != 5 {
		t.Errorf("got %+v", s)
	}
	corpus, err := ReadCorpus(source)
	if err != nil || len(corpus.Train) != 158 {
		t.Errorf("%d dialogues for train, %v; want 158", len(corpus.Train), err)
	}
}
