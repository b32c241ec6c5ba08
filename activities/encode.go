package activities

import (
	"fmt"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// encoder turns turns into token sequences of one role: the only place where
// the domain's messages meet the tokenizer.
type encoder struct {
	tok     *tokens.Tokenizer
	prompts esc.Prompts
	role    esc.Role
	limit   int // tokens of a sequence, answer included
	longer  experiments.Longer
	// skipped counts the sequences that were left out for their length.
	skipped int
	// trimmed counts the sequences whose oldest messages were dropped.
	trimmed int
}

func newEncoder(tok *tokens.Tokenizer, k experiments.Kernel, role esc.Role) (*encoder, error) {
	prompts, err := esc.BuiltinPrompts(string(k.Prompts))
	if err != nil {
		return nil, err
	}
	return &encoder{tok: tok, prompts: prompts, role: role, limit: k.MaxTokens, longer: k.Longer}, nil
}

// group names the prefix tree of a dialogue: its turns share their history.
func group(dialogue int) string { return strconv.Itoa(dialogue) }

// builder makes the prompt of a context.
type builder func(context []esc.Message) (esc.Prompt, error)

// under builds the role's own prompts; rg is given the strategy.
func (e *encoder) under(strategy esc.Strategy) builder {
	return func(context []esc.Message) (esc.Prompt, error) { return e.prompts.Prompt(e.role, context, strategy) }
}

// prompt encodes what the role is given before it answers: the context, and
// for rg the strategy. reserve tokens stay free for the answer. Prompts are
// always trimmed to fit: every turn wants an answer.
func (e *encoder) prompt(context []esc.Message, strategy esc.Strategy, reserve int) ([]int32, error) {
	return e.fit(context, e.under(strategy), reserve)
}

// answers encodes a turn with one or more answers, each as a whole sequence:
// prompt, answer and the end of turn, the loss on what follows the prompt.
// The answers share the prompt to the token. ok is false where the sequence is
// longer than the limit and experiments.LongerSkip leaves it out.
func (e *encoder) answers(turn esc.Turn, answers ...string) (sequences []lm.Sequence, ok bool, err error) {
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
			e.skipped++
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
func (e *encoder) answerPrefix(turn esc.Turn) (string, error) {
	p, err := e.prompts.Prompt(e.role, turn.Context, turn.Strategy)
	return p.AnswerPrefix, err
}

// fit drops the oldest exchanges of the context, two messages at a time, until
// the prompt leaves reserve tokens free.
func (e *encoder) fit(context []esc.Message, build builder, reserve int) ([]int32, error) {
	room := e.limit - reserve
	for first := true; ; first = false {
		ids, err := e.encode(context, build)
		if err != nil {
			return nil, err
		}
		if len(ids) <= room {
			if !first {
				e.trimmed++
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
func (e *encoder) cut(context []esc.Message, build builder, ids []int32, room int) ([]int32, error) {
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
	e.trimmed++
	return ids, nil
}

// encode renders and tokenizes a prompt.
func (e *encoder) encode(context []esc.Message, build builder) ([]int32, error) {
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
