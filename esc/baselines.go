package esc

import "fmt"

// Instruction is what a prompt baseline (paper, appendix D.2) asks the base
// model for on its way to a reply.
type Instruction string

const (
	Revise   Instruction = "revise"   // direct-refine: the last reply again, better
	Feedback Instruction = "feedback" // self-refine: what to change in the last reply
	Refine   Instruction = "refine"   // self-refine: the last reply again, by the feedback
	Emotion  Instruction = "emotion"  // emotion-cot: thoughts about the seeker's emotion; a system message
	Respond  Instruction = "respond"  // emotion-cot: the reply that follows from the thoughts
)

// Instructions returns the five instructions.
func Instructions() []Instruction { return []Instruction{Revise, Feedback, Refine, Emotion, Respond} }

// Instruction returns an instruction's text, never empty.
func (p Prompts) Instruction(i Instruction) string { return p.instruction[i] }

// Exchange is a text that the model has written after a context, and the
// instruction that follows it.
type Exchange struct {
	Text string
	Then Instruction
}

// FollowUp builds the vanilla model's prompt with exchanges after the context:
// each text as the assistant's message, each instruction as the user's.
func (p Prompts) FollowUp(context []Message, exchanges ...Exchange) (Prompt, error) {
	prompt, err := p.Prompt(VM, context, NoStrategy)
	if err != nil {
		return Prompt{}, err
	}
	for _, e := range exchanges {
		text, known := p.instruction[e.Then]
		if !known {
			return Prompt{}, fmt.Errorf("esc: unknown instruction %s", quoteShort(string(e.Then)))
		}
		prompt.Messages = append(prompt.Messages, Message{AssistantRole, e.Text}, Message{UserRole, text})
	}
	return prompt, nil
}

// Thoughts builds the prompt for thoughts about the seeker's emotion: the
// context under a system message of its own.
func (p Prompts) Thoughts(context []Message) (Prompt, error) {
	prompt, err := p.Prompt(VM, context, NoStrategy)
	if err != nil {
		return Prompt{}, err
	}
	prompt.Messages = append([]Message{{SystemRole, p.instruction[Emotion]}}, context...)
	return prompt, nil
}
