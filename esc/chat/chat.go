// Package chat holds a conversation with a model of emotional support: what was
// said, which strategy was planned for each reply, and what a person may change
// about it. It knows nothing of how replies are computed.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/esclab/esclab/esc"
)

// Note is shown before every conversation; it says what the paper's ethics
// statement asks for, in our words.
const Note = `This model is a subject of research. It is no counsellor and no therapist, and
what it says may be wrong or may hurt. Do not use it to help people in distress,
and not for yourself if you are, unless a qualified professional supervises it.
If you are in danger or think of harming yourself, call your local emergency
number or a crisis line now: a person in need deserves a person.`

// Plan is what the planner thinks of the eight strategies for the next reply.
type Plan struct {
	// Probabilities of the strategies, relative to each other: they sum to 1.
	Probabilities [esc.NumStrategies]float64
	// Mass is the probability that the model begins its answer with any of the
	// eight at all: small where it has not learned to.
	Mass float64
}

// Best is the likeliest strategy, the earliest of equals.
func (p Plan) Best() esc.Strategy {
	best := esc.Question
	for _, s := range esc.Strategies() {
		if p.Probabilities[s] > p.Probabilities[best] {
			best = s
		}
	}
	return best
}

// Model plans and writes replies. context is as in esc.Turn.
type Model interface {
	// Plan scores the strategies of the next reply.
	Plan(ctx context.Context, context []esc.Message) (Plan, error)
	// Respond writes the reply under a strategy and hands its text to emit as it
	// comes. sample tells apart the replies to one and the same context: 0 for
	// the first. cut is true where the reply was longer than allowed.
	Respond(ctx context.Context, context []esc.Message, strategy esc.Strategy, sample int, emit func(text string)) (response string, cut bool, err error)
}

// Exchange is what the person said and what the model replied.
type Exchange struct {
	Message  string
	Plan     Plan
	Strategy esc.Strategy // of the reply
	Forced   bool         // by the person, not planned
	Response string
	Cut      bool // the reply reached the limit of new tokens
	Sample   int  // how often the reply was written anew
}

// ErrNothing says that there is no reply yet to be undone or written anew.
var ErrNothing = errors.New("nothing has been said yet")

// Conversation is what was said. The zero value but for Model is an empty one.
type Conversation struct {
	Model     Model
	Exchanges []Exchange
	// Force is the strategy of the next reply; NoStrategy (as New sets it) lets
	// the planner choose.
	Force esc.Strategy
}

// New begins a conversation.
func New(model Model) *Conversation { return &Conversation{Model: model, Force: esc.NoStrategy} }

// context is the chat up to n exchanges, and then a message.
func (c *Conversation) context(n int, message string) []esc.Message {
	var messages []esc.Message
	for _, e := range c.Exchanges[:n] {
		messages = append(messages, esc.Message{Role: esc.UserRole, Content: e.Message},
			esc.Message{Role: esc.AssistantRole, Content: esc.Answer(esc.VM, e.Strategy, e.Response)})
	}
	return append(messages, esc.Message{Role: esc.UserRole, Content: message})
}

// Watcher is told of a reply as it comes into being.
type Watcher struct {
	Planned func(e Exchange)  // the strategy is known
	Text    func(text string) // a piece of the response
}

// Say adds a message and the model's reply. After an error the conversation is as
// it was.
func (c *Conversation) Say(ctx context.Context, message string, w Watcher) (Exchange, error) {
	history := c.context(len(c.Exchanges), message)
	plan, err := c.Model.Plan(ctx, history)
	if err != nil {
		return Exchange{}, err
	}
	e := Exchange{Message: message, Plan: plan, Strategy: plan.Best()}
	if c.Force.Valid() {
		e.Strategy, e.Forced = c.Force, true
	}
	if e, err = c.respond(ctx, history, e, w); err != nil {
		return e, err
	}
	c.Exchanges, c.Force = append(c.Exchanges, e), esc.NoStrategy
	return e, nil
}

// Again writes the last reply anew: another sample, under the strategy that is
// forced, if one is.
func (c *Conversation) Again(ctx context.Context, w Watcher) (Exchange, error) {
	last := len(c.Exchanges) - 1
	if last < 0 {
		return Exchange{}, ErrNothing
	}
	e := c.Exchanges[last]
	if e.Sample++; c.Force.Valid() {
		e.Strategy, e.Forced = c.Force, true
	}
	e, err := c.respond(ctx, c.context(last, e.Message), e, w)
	if err != nil {
		return e, err
	}
	c.Exchanges[last], c.Force = e, esc.NoStrategy
	return e, nil
}

func (c *Conversation) respond(ctx context.Context, history []esc.Message, e Exchange, w Watcher) (Exchange, error) {
	if w.Planned != nil {
		w.Planned(e)
	}
	emit := w.Text
	if emit == nil {
		emit = func(string) {}
	}
	var err error
	e.Response, e.Cut, err = c.Model.Respond(ctx, history, e.Strategy, e.Sample, emit)
	return e, err
}

// Undo takes the last message and its reply back.
func (c *Conversation) Undo() (Exchange, error) {
	last := len(c.Exchanges) - 1
	if last < 0 {
		return Exchange{}, ErrNothing
	}
	e := c.Exchanges[last]
	c.Exchanges = c.Exchanges[:last]
	return e, nil
}

// transcript is a saved conversation.
type transcript struct {
	About     string  `json:"about"` // which run and system
	Note      string  `json:"note"`
	Exchanges []saved `json:"exchanges"`
}

type saved struct {
	Seeker        string             `json:"seeker"`
	Supporter     string             `json:"supporter"`
	Strategy      esc.Strategy       `json:"strategy"`
	Forced        bool               `json:"forced"`
	Planned       esc.Strategy       `json:"planned"`
	Probabilities map[string]float64 `json:"probabilities"`
	Mass          float64            `json:"mass"`
	Cut           bool               `json:"cut,omitempty"`
}

// Save writes the conversation as JSON; about says whom it was held with.
func (c *Conversation) Save(w io.Writer, about string) error {
	t := transcript{About: about, Note: Note, Exchanges: []saved{}}
	for _, e := range c.Exchanges {
		s := saved{Seeker: e.Message, Supporter: e.Response, Strategy: e.Strategy, Forced: e.Forced,
			Planned: e.Plan.Best(), Probabilities: map[string]float64{}, Mass: e.Plan.Mass, Cut: e.Cut}
		for _, strategy := range esc.Strategies() {
			s.Probabilities[strategy.String()] = e.Plan.Probabilities[strategy]
		}
		t.Exchanges = append(t.Exchanges, s)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(t); err != nil {
		return fmt.Errorf("save the conversation: %w", err)
	}
	return nil
}
