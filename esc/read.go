package esc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Limits bounds what a corpus file may ask for. They are checked while the
// file streams by, before memory is spent.
type Limits struct {
	FileBytes int64 // of one file
	TextBytes int   // of one utterance or one description, UTF-8
	Turns     int   // utterances of one dialogue
	Dialogues int   // of one file
}

// DefaultLimits leave room of two orders of magnitude above ESConv.
func DefaultLimits() Limits {
	return Limits{FileBytes: 1 << 30, TextBytes: 64 << 10, Turns: 4096, Dialogues: 200_000}
}

// Reading says how a corpus' files are taken. The zero value takes ESConv's own.
type Reading struct {
	// Strategies gives names that are none of the eight their strategy, "" for a
	// supporter's utterance without one. Case and white space do not matter.
	Strategies map[string]Strategy
	// Merge joins a supporter's consecutive utterances to one, with a newline
	// between their texts and the first one's strategy.
	Merge bool
	// Limits of each file; the zero value means DefaultLimits.
	Limits Limits
}

// ReadFile reads the dialogues of one file; see ReadDialogues.
func ReadFile(path string, limits Limits) ([]Dialogue, error) {
	var s Survey
	dialogues, err := s.readFile(path, Reading{Limits: limits})
	if err == nil {
		err = s.Unmapped()
	}
	if err != nil {
		return nil, err
	}
	return dialogues, nil
}

// ReadDialogues reads dialogues in ESConv's JSON layout, as a stream: a JSON
// list of them, or JSON lines with one a line. name stands for the file in
// errors, which are *DataError.
//
// Of a dialogue it reads experience_type, emotion_type, problem_type, situation
// and dialog (or dialogue, conversation, messages); of an utterance speaker (or
// role), content (or text, utterance) and annotation.strategy (or strategy); the
// first of these names that is not empty counts. Other keys are ignored. A UTF-8
// byte order mark is skipped; white space at both ends of a text is trimmed.
// Everything else that Dialogue.Check refuses, no dialogues, a repeated key,
// text that is not UTF-8, and anything after the list is an error.
func ReadDialogues(name string, r io.Reader, limits Limits) ([]Dialogue, error) {
	var s Survey
	dialogues, err := s.read(name, r, Reading{Limits: limits})
	if err == nil {
		err = s.Unmapped()
	}
	if err != nil {
		return nil, err
	}
	return dialogues, nil
}

// readFile reads one file and counts in it.
func (s *Survey) readFile(path string, reading Reading) ([]Dialogue, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("corpus file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("corpus file: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("corpus file %s is a directory; name a JSON file", path)
	}
	if reading.Limits == (Limits{}) {
		reading.Limits = DefaultLimits()
	}
	if limit := reading.Limits.FileBytes; info.Size() > limit {
		return nil, &DataError{File: path, Dialogue: -1, Turn: -1,
			Err: fmt.Errorf("the file has %d bytes, more than the limit of %d; split it or raise the limit", info.Size(), limit)}
	}
	return s.read(path, file, reading)
}

// read reads the dialogues of a stream and counts in them. Where Unmapped is an
// error afterwards, they are not to be used.
func (s *Survey) read(name string, r io.Reader, reading Reading) ([]Dialogue, error) {
	d := &dialogueReader{
		Reading: reading, scanner: newScanner(r, reading.Limits.FileBytes), survey: s, name: name, dialogue: -1, turn: -1,
	}
	d.strategies = make(map[string]Strategy, len(reading.Strategies))
	for name, strategy := range reading.Strategies {
		d.strategies[foldName(name)] = strategy
	}
	dialogues, err := d.list()
	if err != nil {
		return nil, d.fault(err)
	}
	return dialogues, nil
}

// dialogueReader remembers where it reads, for errors.
type dialogueReader struct {
	Reading
	scanner        *scanner
	survey         *Survey
	name           string
	strategies     map[string]Strategy // Reading.Strategies by their folded names
	dialogue, turn int
}

// fault says where reading stands.
func (d *dialogueReader) fault(err error) *DataError {
	return &DataError{
		File: d.name, Dialogue: d.dialogue, Turn: d.turn, Line: d.scanner.line, Offset: d.scanner.offset, Err: err,
	}
}

func (d *dialogueReader) list() ([]Dialogue, error) {
	if err := d.scanner.byteOrderMark(); err != nil {
		return nil, err
	}
	first, err := d.scanner.peek()
	if errors.Is(err, errTruncated) {
		return nil, errors.New("the file is empty; it should hold a JSON list of dialogues, or one dialogue a line")
	}
	if err != nil {
		return nil, err
	}
	var dialogues []Dialogue
	one := func(i int) error {
		d.dialogue, d.turn = i, -1
		if i >= d.Limits.Dialogues {
			return fmt.Errorf("more than the limit of %d dialogues", d.Limits.Dialogues)
		}
		dialogue, err := d.one(i)
		if err != nil {
			return err
		}
		dialogues = append(dialogues, dialogue)
		return nil
	}
	switch first {
	case '[':
		err = d.scanner.array(func(i int) error {
			err := one(i)
			if err == nil {
				d.dialogue, d.turn = -1, -1
			}
			return err
		})
		if err == nil {
			err = d.scanner.end()
		}
	case '{':
		err = d.lines(one)
	default:
		err = fmt.Errorf("found %q at the start; the file should hold a JSON list of dialogues, as ESConv.json does, "+
			"or one dialogue a line", first)
	}
	if err == nil && len(dialogues) == 0 {
		err = errors.New("the list holds no dialogues")
	}
	return dialogues, err
}

// lines reads JSON lines; empty ones do not count.
func (d *dialogueReader) lines(one func(i int) error) error {
	for i := 0; ; i++ {
		switch _, err := d.scanner.peek(); {
		case errors.Is(err, errTruncated): // here the file may end
			return nil
		case err != nil:
			return err
		}
		d.scanner.oneLine = true
		if err := one(i); err != nil {
			return err
		}
		d.scanner.oneLine = false
		if err := d.scanner.endLine(); err != nil {
			return err
		}
	}
}

// object calls field with each of the known keys; one that stands twice is an
// error, all others are skipped.
func (d *dialogueReader) object(known []string, field func(key string) error) error {
	seen := make([]bool, len(known))
	return d.scanner.object(func(key string) error {
		i := slices.Index(known, key)
		if i < 0 {
			return d.scanner.skip(0)
		}
		if seen[i] {
			return fmt.Errorf("the key %q is there twice", key)
		}
		seen[i] = true
		return field(key)
	})
}

// Keys that are read, by object. Of those that mean the same the first that is
// not empty counts.
var (
	utterancesKeys = []string{"dialog", "dialogue", "conversation", "messages"}
	dialogueKeys   = append([]string{"experience_type", "emotion_type", "problem_type", "situation",
		"survey_score", "init_intensity", "final_intensity"}, utterancesKeys...)
	speakerKeys   = []string{"speaker", "role"}
	textKeys      = []string{"content", "text", "utterance"}
	strategyKeys  = []string{"annotation.strategy", "strategy"}
	utteranceKeys = slices.Concat([]string{"annotation", "strategy"}, speakerKeys, textKeys)
)

func (d *dialogueReader) one(index int) (Dialogue, error) {
	dialogue := Dialogue{Index: index}
	from := ""
	err := d.object(dialogueKeys, func(key string) (err error) {
		switch key {
		case "experience_type":
			dialogue.ExperienceType, err = d.optional(key, d.Limits.TextBytes)
		case "emotion_type":
			dialogue.EmotionType, err = d.optional(key, d.Limits.TextBytes)
		case "problem_type":
			dialogue.ProblemType, err = d.optional(key, d.Limits.TextBytes)
		case "situation":
			dialogue.Situation, err = d.optional(key, d.Limits.TextBytes)
		case "survey_score", "init_intensity", "final_intensity":
			err = d.intensities(key)
		default:
			if c, err := d.scanner.peek(); key != utterancesKeys[0] && (err != nil || c != '[') {
				return errors.Join(err, d.scanner.skip(0)) // another word for something else
			}
			if from != "" {
				return fmt.Errorf("the keys %q and %q both hold utterances; keep one", from, key)
			}
			from = key
			dialogue.Utterances, err = d.utterances()
		}
		return err
	})
	if err != nil {
		return dialogue, err
	}
	if from == "" {
		return dialogue, errors.New(`the key "dialog" is missing; a dialogue has its utterances there`)
	}
	if turn, err := dialogue.Check(); err != nil {
		d.turn = turn
		return dialogue, err
	}
	d.survey.count(dialogue)
	if d.Merge {
		dialogue.Utterances, err = merged(dialogue.Utterances, d.Limits.TextBytes)
	}
	return dialogue, err
}

// merged joins what the supporter says without an answer in between.
func merged(utterances []Utterance, most int) ([]Utterance, error) {
	var out []Utterance
	for _, u := range utterances {
		last := len(out) - 1
		if u.Speaker != Supporter || last < 0 || out[last].Speaker != Supporter {
			out = append(out, u)
			continue
		}
		if out[last].Text += "\n" + u.Text; len(out[last].Text) > most {
			return nil, fmt.Errorf("merged utterances: %w: more than the limit of %d bytes; set corpus.consecutive to keep",
				errTooLong, most)
		}
	}
	return out, nil
}

func (d *dialogueReader) utterances() (all []Utterance, err error) {
	err = d.scanner.array(func(i int) error {
		d.turn = i
		if i >= d.Limits.Turns {
			return fmt.Errorf("more than the limit of %d turns", d.Limits.Turns)
		}
		u, err := d.utterance()
		all = append(all, u)
		return err
	})
	if err == nil {
		d.turn = -1
	}
	return all, err
}

// optional reads a text that may be absent; what is not a string (null, a
// number) is ignored.
func (d *dialogueReader) optional(key string, most int) (string, error) {
	c, err := d.scanner.peek()
	if err != nil {
		return "", err
	}
	if c != '"' {
		return "", d.scanner.skip(0)
	}
	text, err := d.scanner.text(most)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return strings.TrimSpace(text), nil
}

// inObject reads the known keys of a value that is an object, and skips any other value.
func (d *dialogueReader) inObject(known []string, field func(key string) error) error {
	if c, err := d.scanner.peek(); err != nil || c != '{' {
		return errors.Join(err, d.scanner.skip(0))
	}
	return d.object(known, field)
}

func (d *dialogueReader) utterance() (Utterance, error) {
	got := map[string]string{}
	err := d.object(utteranceKeys, func(key string) (err error) {
		switch {
		case key == "annotation":
			return d.inObject([]string{"strategy"}, func(key string) (err error) {
				got["annotation."+key], err = d.optional(key, 1<<10)
				return err
			})
		case key == "speaker":
			got[key], err = d.scanner.text(256)
		case key == "content":
			got[key], err = d.scanner.text(d.Limits.TextBytes)
		default:
			got[key], err = d.optional(key, d.Limits.TextBytes)
			return err
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", key, err)
		}
		return err
	})
	if err != nil {
		return Utterance{}, err
	}
	u := Utterance{
		Speaker: parseSpeaker(firstOf(got, speakerKeys)), Strategy: NoStrategy,
		Text: strings.TrimSpace(firstOf(got, textKeys)),
	}
	if u.Speaker == Supporter {
		u.Strategy = d.strategy(firstOf(got, strategyKeys))
	}
	return u, u.Check()
}

// firstOf gives the first value that is there and not empty.
func firstOf(got map[string]string, keys []string) string {
	for _, key := range keys {
		if got[key] != "" {
			return got[key]
		}
	}
	return ""
}

// strategy reads a supporter's strategy. One that is unknown is counted, so that
// the error can list them all; the dialogue is not used then, and Others stands
// in for the checks to come.
func (d *dialogueReader) strategy(name string) Strategy {
	if s, err := ParseStrategy(name); err == nil {
		return s
	}
	name = strings.Join(strings.Fields(name), " ")
	if s, known := d.strategies[foldName(name)]; known {
		d.survey.Mapped = counted(d.survey.Mapped, name)
		return s
	}
	if d.survey.Unknown = counted(d.survey.Unknown, name); d.survey.first == nil {
		d.survey.first = d.fault(nil)
	}
	return Others
}

func counted(counts map[string]int, name string) map[string]int {
	if counts == nil {
		counts = map[string]int{}
	}
	counts[name]++
	return counts
}
