package esc

import (
	"slices"
	"strings"
	"testing"
)

// What the baselines are asked continues the vanilla model's prompt, speaker by
// speaker in turn; thoughts stand under a system message of their own.
func TestFollowUp(t *testing.T) {
	turn := Turns(sampleDialogue())[2]
	for _, set := range PromptSets() {
		prompts, err := BuiltinPrompts(set)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := prompts.Prompt(VM, turn.Context, NoStrategy)
		if err != nil {
			t.Fatal(err)
		}
		got, err := prompts.FollowUp(turn.Context, Exchange{"[Question] Why?", Feedback}, Exchange{"Too short.", Refine})
		if err != nil {
			t.Fatal(err)
		}
		want := append(slices.Clone(plain.Messages), Message{AssistantRole, "[Question] Why?"}, Message{UserRole, prompts.Instruction(Feedback)},
			Message{AssistantRole, "Too short."}, Message{UserRole, prompts.Instruction(Refine)})
		if !slices.Equal(got.Messages, want) || got.AnswerPrefix != "" {
			t.Errorf("%s: got %q", set, got)
		}
		thoughts, err := prompts.Thoughts(turn.Context)
		if err != nil || thoughts.Messages[0] != (Message{SystemRole, prompts.Instruction(Emotion)}) || !slices.Equal(thoughts.Messages[1:], turn.Context) {
			t.Errorf("%s: got %q, %v", set, thoughts, err)
		}
		seen := map[string]bool{}
		for _, i := range Instructions() {
			seen[prompts.Instruction(i)] = true
			if asks := i == Revise || i == Refine || i == Respond; set == "full" && asks != strings.Contains(prompts.Instruction(i), "[Strategy] reply") {
				t.Errorf("%s: the format of a reply is asked for where one is written: %q", i, prompts.Instruction(i))
			}
		}
		if len(seen) != 5 || seen[""] {
			t.Errorf("%s: instructions %v", set, seen)
		}
		if _, err := prompts.FollowUp(turn.Context, Exchange{"x", "shout"}); err == nil {
			t.Error("an unknown instruction was accepted")
		}
		if _, err := prompts.Thoughts(turn.Context[:2]); err == nil {
			t.Error("a context that ends with the assistant was accepted")
		}
	}
}
