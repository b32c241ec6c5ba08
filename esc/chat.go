package esc

import (
	"fmt"
	"strings"
)

// Roles of a chat message.
const (
	SystemRole    = "system"
	UserRole      = "user"
	AssistantRole = "assistant"
)

// Message is one message of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Turn is one supporter utterance together with what comes before it.
type Turn struct {
	Dialogue int       // Dialogue.Index
	Index    int       // position among the dialogue's supporter utterances, from 0
	Context  []Message // user and assistant in turn, from "user" to "user"
	Strategy Strategy  // gold
	Response string    // gold
}

// Place is where a supporter's turn stands in a part of a corpus.
type Place struct {
	Dialogue int `json:"dialogue"` // Dialogue.Index
	Turn     int `json:"turn"`     // Turn.Index
}

// Place is where the turn stands.
func (t Turn) Place() Place { return Place{Dialogue: t.Dialogue, Turn: t.Index} }

// Chat turns a dialogue into chat messages exactly as the paper's authors did:
// the seeker's consecutive utterances are joined with a newline into one user
// message; each supporter utterance is an assistant message "[Strategy] text"
// of its own; where the supporter opens, the user says "Hi"; between
// consecutive supporter utterances the user says " "; what the seeker says
// after the last supporter utterance is dropped. User and assistant alternate.
func Chat(d Dialogue) []Message {
	var messages []Message
	pending, has := "", false
	for _, u := range d.Utterances {
		if u.Speaker == Seeker {
			if has {
				pending += "\n"
			}
			pending, has = pending+u.Text, true
			continue
		}
		if !has {
			pending = " "
			if len(messages) == 0 {
				pending = "Hi"
			}
		}
		messages = append(messages,
			Message{UserRole, pending},
			Message{AssistantRole, u.Strategy.Bracketed() + " " + u.Text})
		pending, has = "", false
	}
	return messages
}

// Turns returns a turn for each supporter utterance. The contexts are nested
// prefixes of Chat(d) and share its memory: do not change them in place.
func Turns(d Dialogue) []Turn {
	messages := Chat(d)
	turns := make([]Turn, 0, len(messages)/2)
	for _, u := range d.Utterances {
		if u.Speaker != Supporter {
			continue
		}
		end := 2*len(turns) + 1
		turns = append(turns, Turn{
			Dialogue: d.Index,
			Index:    len(turns),
			Context:  messages[:end:end],
			Strategy: u.Strategy,
			Response: u.Text,
		})
	}
	return turns
}

// AllTurns returns the turns of all dialogues, in order.
func AllTurns(dialogues []Dialogue) []Turn {
	var turns []Turn
	for _, d := range dialogues {
		turns = append(turns, Turns(d)...)
	}
	return turns
}

// Transcript writes a context as lines of who speaks and what was said. The
// user's " " between two answers of the supporter says nothing.
func Transcript(context []Message) string {
	var b strings.Builder
	for _, m := range context {
		text := strings.TrimSpace(m.Content)
		if text == "" {
			continue
		}
		who := "Seeker"
		if m.Role == AssistantRole {
			who = "Supporter"
		}
		fmt.Fprintf(&b, "%s: %s\n", who, text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
