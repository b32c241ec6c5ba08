package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// rules is a model by rules: it asks first and reflects later, and what it says
// tells what it was given.
type rules struct {
	err error // of the next reply
}

func (*rules) Plan(_ context.Context, messages []esc.Message) (Plan, error) {
	p := Plan{Mass: 0.25}
	p.Probabilities[esc.Question], p.Probabilities[esc.Reflection] = 0.7, 0.3
	if len(messages) > 1 {
		p.Probabilities[esc.Question], p.Probabilities[esc.Reflection], p.Mass = 0.2, 0.8, 0.9
	}
	return p, nil
}

func (r *rules) Respond(_ context.Context, messages []esc.Message, strategy esc.Strategy, sample int, emit func(string)) (string, bool, error) {
	if err := r.err; err != nil {
		r.err = nil
		return "", false, err
	}
	last := messages[len(messages)-1].Content
	response := fmt.Sprintf("%s no. %d to %q after %d messages", strategy.Abbreviation(), sample, last, len(messages)-1)
	for _, word := range strings.SplitAfter(" "+response, " ") {
		emit(word)
	}
	return response, last == "long", nil
}

// talk runs a session over lines and gives what the person sees after the head.
func talk(t *testing.T, s *Session, lines ...string) string {
	t.Helper()
	var out bytes.Buffer
	s.In, s.Out = strings.NewReader(strings.Join(lines, "\n")+"\n"), &out
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), Note) {
		t.Error("the session does not begin with the note")
	}
	_, rest, found := strings.Cut(out.String(), "/help lists the commands.\n\n")
	if !found {
		t.Fatal(out.String())
	}
	return rest
}

func TestSession(t *testing.T) {
	c := New(&rules{})
	path := filepath.Join(t.TempDir(), "talk.json")
	got := talk(t, &Session{Conversation: c, About: "demo, decoupled/dpo"},
		"Hello.", "", "   ", "I am sad.", "/regenerate", "/strategy rf", "/strategy auto", "/strategy Affirmation and Reassurance",
		"/REGENERATE", "Again.", "/undo", "long", "/save "+path, "/save "+path, "/nonsense", "/strategy smile", "/save", "/quit", "Not read.")
	for _, want := range []string{
		"planned Question: Qu 70 %, RF 30 %, RP 0 %, Sd 0 %, AR 0 %, PS 0 %, In 0 %, Ot 0 % (of the 25 % that the model gives to strategies at all)\n[Question] Qu no. 0 to \"Hello.\" after 0 messages\n\n",
		"planned Reflection of feelings: RF 80 %, Qu 20 %, RP 0 %, Sd 0 %, AR 0 %, PS 0 %, In 0 %, Ot 0 %\n[Reflection of feelings] RF no. 0 to \"I am sad.\" after 2 messages\n\n",
		"RF no. 1 to \"I am sad.\"",
		"The next reply is [Reflection of feelings].\nThe planner chooses again.\nThe next reply is [Affirmation and Reassurance].\n",
		"; forced Affirmation and Reassurance\n[Affirmation and Reassurance] AR no. 2 to \"I am sad.\" after 2 messages\n\n",
		"RF no. 0 to \"Again.\" after 4 messages",
		"Taken back: \"Again.\" and its reply.\n",
		"RF no. 0 to \"long\" after 4 messages …\n",
		"Saved 3 exchanges in " + path,
		"Not saved: ",
		"There is no command /nonsense",
		`unknown strategy "smile"`,
		"Name a file",
	} {
		before, after, found := strings.Cut(got, want)
		if !found {
			t.Fatalf("not there, or not in this order: %q\n%s", want, got)
		}
		_, got = before, after
	}
	if strings.Contains(got, "Not read") {
		t.Error("the session went on after /quit")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var saved transcript
	if err := json.Unmarshal(data, &saved); err != nil {
		t.Fatal(err)
	}
	if len(saved.Exchanges) != 3 || saved.Note != Note || saved.About != "demo, decoupled/dpo" {
		t.Fatalf("saved %+v", saved)
	}
	if e := saved.Exchanges[1]; !e.Forced || e.Strategy != esc.Affirmation || e.Planned != esc.Reflection || e.Probabilities["Reflection of feelings"] != 0.8 || e.Seeker != "I am sad." {
		t.Errorf("saved %+v", e)
	}
	if !saved.Exchanges[2].Cut {
		t.Error("the cut reply is not marked")
	}
}

// The context of a reply is the chat form that models are trained on.
func TestContext(t *testing.T) {
	c := New(&rules{})
	for _, message := range []string{"One.", "Two."} {
		if _, err := c.Say(t.Context(), message, Watcher{}); err != nil {
			t.Fatal(err)
		}
	}
	got := c.context(2, "Three.")
	for i, m := range got {
		if want := []string{esc.UserRole, esc.AssistantRole}[i%2]; m.Role != want {
			t.Errorf("message %d is the %s's", i, m.Role)
		}
	}
	if got[3].Content != `[Reflection of feelings] RF no. 0 to "Two." after 2 messages` || got[4].Content != "Three." {
		t.Errorf("context %+v, want the planned strategy, the reply and the last message", got)
	}
}

func TestNothingYet(t *testing.T) {
	got := talk(t, &Session{Conversation: New(&rules{})}, "/undo", "/regenerate", "/strategy", "/help")
	for _, want := range []string{"nothing to undo", "no reply yet", "name and describe the feelings", "/save FILE"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	got = talk(t, &Session{Conversation: New(&rules{}), Deterministic: true}, "Hello.", "/regenerate", "/strategy In", "/regenerate")
	if !strings.Contains(got, "would be the same") || !strings.Contains(got, "In no. 1") {
		t.Error(got)
	}
}

// What fails ends the session and leaves the conversation as it was.
func TestErrors(t *testing.T) {
	broken := errors.New("device lost")
	model := &rules{}
	c := New(model)
	if _, err := c.Say(t.Context(), "Hello.", Watcher{}); err != nil {
		t.Fatal(err)
	}
	c.Force, model.err = esc.Others, broken
	if _, err := c.Say(t.Context(), "And?", Watcher{}); !errors.Is(err, broken) || len(c.Exchanges) != 1 || c.Force != esc.Others {
		t.Errorf("%v, %d exchanges, forced %s", err, len(c.Exchanges), c.Force)
	}
	model.err = broken
	if _, err := c.Again(t.Context(), Watcher{}); !errors.Is(err, broken) || c.Exchanges[0].Sample != 0 {
		t.Errorf("again: %v, %+v; want the model's error and the reply as it was", err, c.Exchanges[0])
	}
	model.err = broken
	s := Session{Conversation: c, In: strings.NewReader("Hello.\n"), Out: io.Discard}
	if err := s.Run(t.Context()); !errors.Is(err, broken) {
		t.Errorf("session: %v", err)
	}
	s = Session{Conversation: c, In: strings.NewReader(strings.Repeat("x", maxMessage+1)), Out: io.Discard}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "64 KiB") {
		t.Errorf("a long line: %v", err)
	}
	s = Session{Conversation: c, In: strings.NewReader("Hello.\n"), Out: full{}}
	if err := s.Run(t.Context()); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("output that cannot be written: %v", err)
	}
	// A cancelled context ends a session that waits for somebody to type.
	ctx, stop := context.WithCancel(t.Context())
	stop()
	reader, writer := io.Pipe()
	defer writer.Close()
	s = Session{Conversation: c, In: reader, Out: io.Discard}
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// full is an output without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
