package esc

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// ReadFile reads the dialogues of one file; see ReadDialogues.
func ReadFile(path string, limits Limits) ([]Dialogue, error) {
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
	if info.Size() > limits.FileBytes {
		return nil, &DataError{File: path, Dialogue: -1, Turn: -1,
			Err: fmt.Errorf("the file has %d bytes, more than the limit of %d; split it or raise the limit", info.Size(), limits.FileBytes)}
	}
	return ReadDialogues(path, file, limits)
}

// ReadDialogues reads a list of dialogues in ESConv's JSON layout, as a stream.
// name stands for the file in errors, which are *DataError.
//
// Of a dialogue it reads experience_type, emotion_type, problem_type,
// situation and dialog; of an utterance speaker, content and
// annotation.strategy. Other keys are ignored. A UTF-8 byte order mark is
// skipped; white space at both ends of a text is trimmed. Everything else that
// Dialogue.Check refuses, a list without dialogues, a repeated key, text that
// is not UTF-8, and anything after the list is an error.
func ReadDialogues(name string, r io.Reader, limits Limits) ([]Dialogue, error) {
	d := &dialogueReader{scanner: newScanner(r, limits.FileBytes), limits: limits, dialogue: -1, turn: -1}
	dialogues, err := d.list()
	if err != nil {
		return nil, &DataError{File: name, Dialogue: d.dialogue, Turn: d.turn, Line: d.scanner.line, Offset: d.scanner.offset, Err: err}
	}
	return dialogues, nil
}

// dialogueReader remembers where it reads, for errors.
type dialogueReader struct {
	scanner        *scanner
	limits         Limits
	dialogue, turn int
}

func (d *dialogueReader) list() ([]Dialogue, error) {
	if err := d.scanner.byteOrderMark(); err != nil {
		return nil, err
	}
	first, err := d.scanner.peek()
	if errors.Is(err, errTruncated) {
		return nil, errors.New("the file is empty; it should hold a JSON list of dialogues")
	}
	if err != nil {
		return nil, err
	}
	if first != '[' {
		return nil, fmt.Errorf("found %q at the start; the file should hold a JSON list of dialogues, as ESConv.json does", first)
	}
	var dialogues []Dialogue
	err = d.scanner.array(func(i int) error {
		d.dialogue, d.turn = i, -1
		if i >= d.limits.Dialogues {
			return fmt.Errorf("more than the limit of %d dialogues", d.limits.Dialogues)
		}
		dialogue, err := d.one(i)
		if err != nil {
			return err
		}
		dialogues = append(dialogues, dialogue)
		d.dialogue, d.turn = -1, -1
		return nil
	})
	if err == nil {
		err = d.scanner.end()
	}
	if err == nil && len(dialogues) == 0 {
		err = errors.New("the list holds no dialogues")
	}
	return dialogues, err
}

func (d *dialogueReader) one(index int) (Dialogue, error) {
	dialogue := Dialogue{Index: index}
	texts := map[string]*string{
		"experience_type": &dialogue.ExperienceType,
		"emotion_type":    &dialogue.EmotionType,
		"problem_type":    &dialogue.ProblemType,
		"situation":       &dialogue.Situation,
	}
	seen := false
	err := d.scanner.object(func(key string) error {
		if key == "dialog" {
			if seen {
				return errors.New(`the key "dialog" is there twice`)
			}
			seen = true
			err := d.scanner.array(func(i int) error {
				d.turn = i
				if i >= d.limits.Turns {
					return fmt.Errorf("more than the limit of %d turns", d.limits.Turns)
				}
				u, err := d.utterance()
				dialogue.Utterances = append(dialogue.Utterances, u)
				return err
			})
			if err == nil {
				d.turn = -1
			}
			return err
		}
		if field := texts[key]; field != nil {
			if *field != "" {
				return fmt.Errorf("the key %q is there twice", key)
			}
			return d.description(key, field)
		}
		return d.scanner.skip(0)
	})
	if err != nil {
		return dialogue, err
	}
	if !seen {
		return dialogue, errors.New(`the key "dialog" is missing`)
	}
	if turn, err := dialogue.Check(); err != nil {
		d.turn = turn
		return dialogue, err
	}
	return dialogue, nil
}

// description reads a text that is not needed for training; one that is not a
// string (null, a number) is ignored.
func (d *dialogueReader) description(key string, into *string) error {
	c, err := d.scanner.peek()
	if err != nil {
		return err
	}
	if c != '"' {
		return d.scanner.skip(0)
	}
	text, err := d.scanner.text(d.limits.TextBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	*into = strings.TrimSpace(text)
	return nil
}

func (d *dialogueReader) utterance() (Utterance, error) {
	u := Utterance{Strategy: NoStrategy}
	strategy := ""
	var seen [3]bool
	once := func(i int, key string) error {
		if seen[i] {
			return fmt.Errorf("the key %q is there twice", key)
		}
		seen[i] = true
		return nil
	}
	err := d.scanner.object(func(key string) error {
		switch key {
		case "speaker":
			if err := once(0, key); err != nil {
				return err
			}
			text, err := d.scanner.text(256)
			if err != nil {
				return fmt.Errorf("speaker: %w", err)
			}
			u.Speaker = Speaker(strings.ToLower(strings.TrimSpace(text)))
			return nil
		case "content":
			if err := once(1, key); err != nil {
				return err
			}
			text, err := d.scanner.text(d.limits.TextBytes)
			if err != nil {
				return fmt.Errorf("content: %w", err)
			}
			u.Text = strings.TrimSpace(text)
			return nil
		case "annotation":
			if err := once(2, key); err != nil {
				return err
			}
			if c, err := d.scanner.peek(); err != nil || c != '{' {
				return errors.Join(err, d.scanner.skip(0))
			}
			return d.scanner.object(func(key string) error {
				c, err := d.scanner.peek()
				if err != nil {
					return err
				}
				if key != "strategy" || c != '"' {
					return d.scanner.skip(0)
				}
				strategy, err = d.scanner.text(1 << 10)
				return err
			})
		}
		return d.scanner.skip(0)
	})
	if err != nil {
		return u, err
	}
	if strings.TrimSpace(strategy) != "" && u.Speaker == Supporter {
		if u.Strategy, err = ParseStrategy(strategy); err != nil {
			return u, err
		}
	}
	return u, u.Check()
}
