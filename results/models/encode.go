package models

import (
	"fmt"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// Encoder turns turns into token sequences of one role: the only place where
// the domain's messages meet the tokenizer.
type Encoder struct {
	tok     *tokens.Tokenizer
	Prompts esc.Prompts
	role    esc.Role
	limit   int // tokens of a sequence, answer included
	longer  experiments.Longer
	// Skipped counts the sequences that were left out for their length.
	Skipped int
	// Trimmed counts the sequences whose oldest messages were dropped.
	Trimmed int
}

// Encoder gives the encoder of a role.
func (b *Backbone) Encoder(role esc.Role) (*Encoder, error) {
	prompts, err := b.Params.RolePrompts()
	if err != nil {
		return nil, err
	}
	return &Encoder{tok: b.Tok, Prompts: prompts, role: role, limit: b.Params.MaxTokens, longer: b.Params.Longer}, nil
}

// Group names the prefix tree of a dialogue: its turns share their history.
func Group(dialogue int) string { return strconv.Itoa(dialogue) }

// Builder makes the prompt of a context.
type Builder func(context []esc.Message) (esc.Prompt, error)

// under builds the role's own prompts; rg is given the strategy.
func (e *Encoder) under(strategy esc.Strategy) Builder {
	return func(context []esc.Message) (esc.Prompt, error) { return e.Prompts.Prompt(e.role, context, strategy) }
}

// prompt encodes what the role is given before it answers: the context, and
// for rg the strategy. reserve tokens stay free for the answer. Prompts are
// always trimmed to fit, because every turn needs an answer.
func (e *Encoder) prompt(context []esc.Message, strategy esc.Strategy, reserve int) ([]int32, error) {
	return e.fit(context, e.under(strategy), reserve)
}

// Answers encodes a turn with one or more answers, each as a whole sequence:
// prompt, answer and the end of turn, the loss on what follows the prompt.
// The answers share the prompt to the token. ok is false where the sequence is
// longer than the limit and experiments.LongerSkip leaves it out.
func (e *Encoder) Answers(turn esc.Turn, answers ...string) (sequences []lm.Sequence, ok bool, err error) {
	prefix, err := e.answerPrefix(turn)
	if err != nil {
		return nil, false, err
	}
	tails := make([][]int32, len(answers))
	longest := 0
	for i, answer := range answers {
		if tails[i], err = e.tok.AnswerTokens(prefix, answer); err != nil {
			return nil, false, fmt.Errorf("dialogue %d, turn %d: answer: %w", turn.Dialogue, turn.Index, err)
		}
		longest = max(longest, len(tails[i]))
	}
	build := e.under(turn.Strategy)
	whole, err := e.encode(turn.Context, build)
	if err != nil {
		return nil, false, fmt.Errorf("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
	}
	if len(whole)+longest > e.limit {
		switch e.longer {
		case experiments.LongerSkip:
			e.Skipped++
			return nil, false, nil
		case experiments.LongerFail:
			return nil, false, fmt.Errorf("dialogue %d, turn %d: %d tokens, the limit is %d: raise limits.max_tokens, or set limits.longer to trim or skip",
				turn.Dialogue, turn.Index, len(whole)+longest, e.limit)
		}
		if longest >= e.limit {
			return nil, false, fmt.Errorf("dialogue %d, turn %d: the answer alone has %d tokens, the limit is %d: raise limits.max_tokens, or set limits.longer to skip",
				turn.Dialogue, turn.Index, longest, e.limit)
		}
		if whole, err = e.fit(turn.Context, build, longest); err != nil {
			return nil, false, fmt.Errorf("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
	}
	for _, tail := range tails {
		ids := make([]int32, 0, len(whole)+len(tail))
		ids = append(append(ids, whole...), tail...)
		sequences = append(sequences, lm.Sequence{Tokens: ids, LossFrom: len(whole)})
	}
	return sequences, true, nil
}

// answerPrefix is what the assistant's message begins with, given.
func (e *Encoder) answerPrefix(turn esc.Turn) (string, error) {
	p, err := e.Prompts.Prompt(e.role, turn.Context, turn.Strategy)
	return p.AnswerPrefix, err
}

// fit drops the oldest exchanges of the context, two messages at a time, until
// the prompt leaves reserve tokens free.
func (e *Encoder) fit(context []esc.Message, build Builder, reserve int) ([]int32, error) {
	room := e.limit - reserve
	for first := true; ; first = false {
		ids, err := e.encode(context, build)
		if err != nil {
			return nil, err
		}
		if len(ids) <= room {
			if !first {
				e.Trimmed++
			}
			return ids, nil
		}
		if len(context) < 3 {
			return e.cut(context, build, ids, room)
		}
		// Long dialogues are cut to about the right size at once.
		drop := 2
		for excess := len(ids) - room; drop+2 < len(context) && excess > len(ids)*(drop+2)/len(context); {
			drop += 2
		}
		context = context[drop:]
	}
}

// cut shortens the one message that is left, from its beginning: what the
// seeker said last counts most.
func (e *Encoder) cut(context []esc.Message, build Builder, ids []int32, room int) ([]int32, error) {
	last := context[len(context)-1]
	text := []rune(last.Content)
	for len(ids) > room {
		if len(text) == 0 {
			return nil, fmt.Errorf("the prompt alone has %d tokens and the limit leaves %d: raise limits.max_tokens", len(ids), room)
		}
		text = text[(len(text)+3)/4:]
		var err error
		if ids, err = e.encode([]esc.Message{{Role: last.Role, Content: string(text)}}, build); err != nil {
			return nil, err
		}
	}
	e.Trimmed++
	return ids, nil
}

// encode renders and tokenizes a prompt.
func (e *Encoder) encode(context []esc.Message, build Builder) ([]int32, error) {
	p, err := build(context)
	if err != nil {
		return nil, err
	}
	messages := make([]tokens.Message, len(p.Messages))
	for i, m := range p.Messages {
		messages[i] = tokens.Message{Role: m.Role, Content: m.Content}
	}
	return e.tok.ChatPrompt(messages, p.AnswerPrefix)
}
