package activities

import (
	"context"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/models"
)

// promptedSystem is a prompt baseline of Table 3 (appendix D.2): the base model
// writes texts on the way to its reply, each in sight of those before.
type promptedSystem struct {
	vm    *models.Sampler
	steps []step
}

// step is a text on the way to the reply.
type step struct {
	thoughts bool                 // about the seeker's emotion, instead of a reply
	keep     func(*reply) *string // where the text is kept
	then     esc.Instruction      // what the model is asked for next
}

func prompted(b *models.Backbone, p experiments.GenerateParams) (system, error) {
	vm, err := b.Sampler(esc.VM, nil, p.Sampling, p.Seed)
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
	prompts := s.vm.Prompts()
	follow := func(i int) models.Builder {
		return func(context []esc.Message) (esc.Prompt, error) { return prompts.FollowUp(context, said[i]...) }
	}
	for _, step := range s.steps {
		build := follow
		if step.thoughts {
			build = func(int) models.Builder { return prompts.Thoughts }
		}
		texts, err := s.write(ctx, turns, build, tokens)
		if err != nil {
			return nil, err
		}
		for i := range turns {
			text := strings.TrimSpace(texts[i].Text)
			*step.keep(&answers[i]) = text
			said[i] = append(said[i], esc.Exchange{Text: text, Then: step.then})
		}
	}
	texts, err := s.write(ctx, turns, follow, tokens)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		answers[i].Parsed, answers[i].cut = esc.ParseAnswer(esc.VM, text.Text), text.Cut
	}
	return answers, nil
}

// write has the model write one text a turn.
func (s *promptedSystem) write(ctx context.Context, turns []esc.Turn, build func(i int) models.Builder, tokens func(int)) ([]models.Answer, error) {
	requests := make([]models.Request, len(turns))
	for i, turn := range turns {
		requests[i] = models.Request{Turn: turn, Strategy: esc.NoStrategy, Samples: 1, Build: build(i)}
	}
	texts, err := s.vm.Answer(ctx, requests, tokens)
	if err != nil {
		return nil, err
	}
	first := make([]models.Answer, len(turns))
	for i := range texts {
		first[i] = texts[i][0]
	}
	return first, nil
}

func (s *promptedSystem) texts() int { return len(s.steps) + 1 }
func (s *promptedSystem) close()     { s.vm.Close() }
