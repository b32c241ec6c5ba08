package activities

import (
	"context"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// promptedSystem is a prompt baseline of Table 3 (appendix D.2): the base model
// writes texts on the way to its reply, each in sight of those before.
type promptedSystem struct {
	vm    *sampler
	steps []step
}

// step is a text on the way to the reply.
type step struct {
	thoughts bool                 // about the seeker's emotion, instead of a reply
	keep     func(*reply) *string // where the text is kept
	then     esc.Instruction      // what the model is asked for next
}

func (b *backbone) prompted(p experiments.GenerateParams) (system, error) {
	vm, err := b.sampler(esc.VM, nil, p.Sampling, p.Seed)
	return &promptedSystem{vm, stepsOf(p.Method)}, err
}

func stepsOf(m experiments.Method) []step {
	draft := func(r *reply) *string { return &r.draft }
	feedback := func(r *reply) *string { return &r.feedback }
	emotion := func(r *reply) *string { return &r.emotion }
	switch m {
	case experiments.MethodDirectRefine:
		return []step{{keep: draft, then: esc.Revise}}
	case experiments.MethodSelfRefine: // one round of Madaan et al.'s loop
		return []step{{keep: draft, then: esc.Feedback}, {keep: feedback, then: esc.Refine}}
	case experiments.MethodEmotionCoT:
		return []step{{thoughts: true, keep: emotion, then: esc.Respond}}
	}
	return nil
}

func (s *promptedSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	answers := make([]reply, len(turns))
	said := make([][]esc.Exchange, len(turns))
	prompts := s.vm.enc.prompts
	follow := func(i int) builder {
		return func(context []esc.Message) (esc.Prompt, error) { return prompts.FollowUp(context, said[i]...) }
	}
	for _, step := range s.steps {
		build := follow
		if step.thoughts {
			build = func(int) builder { return prompts.Thoughts }
		}
		texts, err := s.write(ctx, turns, build, tokens)
		if err != nil {
			return nil, err
		}
		for i := range turns {
			text := strings.TrimSpace(texts[i].text)
			*step.keep(&answers[i]) = text
			said[i] = append(said[i], esc.Exchange{Text: text, Then: step.then})
		}
	}
	texts, err := s.write(ctx, turns, follow, tokens)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		answers[i].Parsed, answers[i].cut = esc.ParseAnswer(esc.VM, text.text), text.cut
	}
	return answers, nil
}

// write has the model write one text a turn.
func (s *promptedSystem) write(ctx context.Context, turns []esc.Turn, build func(i int) builder, tokens func(int)) ([]answerText, error) {
	requests := make([]request, len(turns))
	for i, turn := range turns {
		requests[i] = request{turn: turn, strategy: esc.NoStrategy, samples: 1, build: build(i)}
	}
	texts, err := s.vm.answer(ctx, requests, tokens)
	if err != nil {
		return nil, err
	}
	first := make([]answerText, len(turns))
	for i := range texts {
		first[i] = texts[i][0]
	}
	return first, nil
}

func (s *promptedSystem) texts() int { return len(s.steps) + 1 }
func (s *promptedSystem) close()     { s.vm.gen.Close() }
