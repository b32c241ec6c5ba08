package esc

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Role is one of the three trained models.
type Role string

const (
	VM Role = "vm" // vanilla model: writes "[Strategy] response"
	SP Role = "sp" // strategy planner: writes "[Strategy]"
	RG Role = "rg" // response generator: given "[Strategy]", writes the response
)

// Roles returns the three roles.
func Roles() []Role { return []Role{VM, SP, RG} }

// Words calls the role's model by its name in the paper.
func (r Role) Words() string {
	switch r {
	case VM:
		return "vanilla model"
	case SP:
		return "strategy planner"
	case RG:
		return "response generator"
	}
	return string(r)
}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, error) {
	for _, role := range Roles() {
		if string(role) == name {
			return role, nil
		}
	}
	return "", fmt.Errorf("esc: unknown role %s; it is vm, sp or rg", quoteShort(name))
}

// Prompt is what a model is given. AnswerPrefix is the beginning of the
// assistant's message: given, not generated, and without loss.
type Prompt struct {
	Messages     []Message
	AnswerPrefix string
}

// Example is a prompt with the answer to learn. AnswerPrefix+Answer is the
// whole assistant message.
type Example struct {
	Prompt
	Answer string
}

// Prompts holds the system message of each role, and the instructions of the
// prompt baselines. The rest of a prompt is the
// chat itself, the same for all turns of a dialogue, so that the turns' token
// sequences are nested prefixes: what differs from turn to turn (the strategy
// given to rg) stands at the end, in AnswerPrefix.
type Prompts struct {
	system      map[Role]string
	instruction map[Instruction]string
}

//go:embed prompts
var promptFiles embed.FS

// PromptSets names the built-in sets: "full" for instruction-tuned models,
// with the strategies' definitions; "tiny" with next to no text, for models
// trained from scratch.
func PromptSets() []string { return []string{"full", "tiny"} }

// BuiltinPrompts returns a built-in set by name.
func BuiltinPrompts(name string) (Prompts, error) {
	for _, known := range PromptSets() {
		if known == name {
			files, err := fs.Sub(promptFiles, "prompts/"+name)
			if err != nil {
				return Prompts{}, fmt.Errorf("esc: prompts %s: %w", name, err)
			}
			return LoadPrompts(files)
		}
	}
	return Prompts{}, fmt.Errorf("esc: unknown prompt set %s; built in are %s", quoteShort(name), strings.Join(PromptSets(), " and "))
}

// LoadPrompts reads vm.txt, sp.txt and rg.txt, one system message each, and
// revise.txt, feedback.txt, refine.txt, emotion.txt and respond.txt, one
// instruction each. In them {{strategies}} stands for the bracketed names in a
// row and {{definitions}} for a list with one definition a line. An empty file
// means no system message; an instruction is never empty.
func LoadPrompts(files fs.FS) (Prompts, error) {
	p := Prompts{system: make(map[Role]string, 3), instruction: make(map[Instruction]string, 5)}
	var names, definitions []string
	for _, s := range Strategies() {
		names = append(names, s.Bracketed())
		definitions = append(definitions, "- "+s.Bracketed()+": "+s.Definition())
	}
	fill := strings.NewReplacer("{{strategies}}", strings.Join(names, ", "), "{{definitions}}", strings.Join(definitions, "\n"))
	read := func(file string) (string, error) {
		data, err := fs.ReadFile(files, file)
		if err != nil {
			return "", fmt.Errorf("esc: prompts: %w", err)
		}
		text := strings.TrimSpace(fill.Replace(string(data)))
		if i := strings.Index(text, "{{"); i >= 0 {
			return "", fmt.Errorf("esc: prompts: %s: unknown placeholder %s; there are {{strategies}} and {{definitions}}", file, quoteShort(text[i:]))
		}
		return text, nil
	}
	var err error
	for _, role := range Roles() {
		if p.system[role], err = read(string(role) + ".txt"); err != nil {
			return Prompts{}, err
		}
	}
	for _, i := range Instructions() {
		if p.instruction[i], err = read(string(i) + ".txt"); err != nil {
			return Prompts{}, err
		}
		if p.instruction[i] == "" {
			return Prompts{}, fmt.Errorf("esc: prompts: %s.txt is empty", i)
		}
	}
	return p, nil
}

// System returns the role's system message, "" for none.
func (p Prompts) System(role Role) string { return p.system[role] }

// Prompt builds the prompt of a role. context runs from "user" to "user" as in
// Turn; strategy is needed by rg and ignored by the others.
//
// For rg the answer prefix is "[Strategy]" without the blank that follows it:
// the blank belongs to the answer, as in the history, where tokenizers join it
// with the response's first word.
func (p Prompts) Prompt(role Role, context []Message, strategy Strategy) (Prompt, error) {
	if len(context) == 0 || context[len(context)-1].Role != UserRole {
		return Prompt{}, errors.New("esc: a prompt's context has to end with the user's message")
	}
	messages := make([]Message, 0, len(context)+1)
	if system := p.system[role]; system != "" {
		messages = append(messages, Message{SystemRole, system})
	}
	prompt := Prompt{Messages: append(messages, context...)}
	switch role {
	case VM, SP:
	case RG:
		if !strategy.Valid() {
			return Prompt{}, errors.New("esc: the prompt of rg needs a strategy")
		}
		prompt.AnswerPrefix = strategy.Bracketed()
	default:
		return Prompt{}, fmt.Errorf("esc: unknown role %s; it is vm, sp or rg", quoteShort(string(role)))
	}
	return prompt, nil
}

// Answer returns what the role should write for a strategy and a response.
func Answer(role Role, strategy Strategy, response string) string {
	switch role {
	case SP:
		return strategy.Bracketed()
	case RG:
		return " " + response
	}
	return strategy.Bracketed() + " " + response
}

// Example returns a turn's training example for a role (paper, equations 3
// and 4 for sp and rg).
func (p Prompts) Example(role Role, turn Turn) (Example, error) {
	prompt, err := p.Prompt(role, turn.Context, turn.Strategy)
	if err != nil {
		return Example{}, fmt.Errorf("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
	}
	return Example{prompt, Answer(role, turn.Strategy, turn.Response)}, nil
}
