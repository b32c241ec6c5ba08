package esc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

type jsonAnnotation struct {
	Strategy string `json:"strategy,omitempty"`
}

type jsonUtterance struct {
	Speaker    Speaker        `json:"speaker"`
	Annotation jsonAnnotation `json:"annotation"`
	Content    string         `json:"content"`
}

type jsonDialogue struct {
	ExperienceType string          `json:"experience_type"`
	EmotionType    string          `json:"emotion_type"`
	ProblemType    string          `json:"problem_type"`
	Situation      string          `json:"situation"`
	Dialog         []jsonUtterance `json:"dialog"`
}

// WriteDialogues writes dialogues in ESConv's layout: what ReadDialogues
// reads, in a fixed order of keys, so that equal dialogues give equal bytes.
func WriteDialogues(w io.Writer, dialogues []Dialogue) error {
	list := make([]jsonDialogue, len(dialogues))
	for i, d := range dialogues {
		list[i] = jsonDialogue{d.ExperienceType, d.EmotionType, d.ProblemType, d.Situation, make([]jsonUtterance, len(d.Utterances))}
		for j, u := range d.Utterances {
			list[i].Dialog[j] = jsonUtterance{Speaker: u.Speaker, Content: u.Text}
			if u.Strategy.Valid() {
				list[i].Dialog[j].Annotation.Strategy = u.Strategy.String()
			}
		}
	}
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(list); err != nil {
		return fmt.Errorf("esc: encoding dialogues: %w", err)
	}
	if _, err := w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("esc: writing dialogues: %w", err)
	}
	return nil
}
