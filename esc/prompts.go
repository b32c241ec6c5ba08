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
// given to rg) stands at the end, in AnswerPrefix. A set may feed the planner and
// the generator as the paper's authors do instead, see loadPrompts.
type Prompts struct {
	system      map[Role]string
	instruction map[Instruction]string
	// conversation is the planner's one user message, with {{conversation}} in it; "": the chat.
	conversation string
	stripped     bool // sp and rg see no past strategies
}

//go:embed prompts
var promptFiles embed.FS

// PromptSets names the built-in sets: "paper" and "full" for instruction-tuned
// models, with the strategies' definitions; "tiny" with next to no text, for
// models trained from scratch. "paper" feeds the planner and the generator as the
// paper's authors do; what it does not have itself is that of "full".
func PromptSets() []string { return []string{"paper", "full", "tiny"} }

// BuiltinPrompts returns a built-in set by name.
func BuiltinPrompts(name string) (Prompts, error) {
	for _, known := range PromptSets() {
		if known == name {
			return loadPrompts(func(file string) ([]byte, error) {
				data, err := promptFiles.ReadFile("prompts/" + name + "/" + file)
				if errors.Is(err, fs.ErrNotExist) {
					return promptFiles.ReadFile("prompts/full/" + file)
				}
				return data, err
			})
		}
	}
	return Prompts{}, fmt.Errorf("esc: unknown prompt set %s; built in are %s", quoteShort(name), strings.Join(PromptSets(), ", "))
}

// WithoutPastStrategies gives prompts in which the planner and the generator see what
// was said, and not by which strategies. The vanilla model goes on seeing both.
func (p Prompts) WithoutPastStrategies() Prompts {
	p.stripped = true
	return p
}

const (
	strategySlot     = "{{strategy}}"
	definitionSlot   = "{{definition}}"
	conversationSlot = "{{conversation}}"
)

// loadPrompts reads vm.txt, sp.txt and rg.txt, one system message each, and
// revise.txt, feedback.txt, refine.txt, emotion.txt and respond.txt, one
// instruction each. In them {{strategies}} stands for the bracketed names in a
// row, {{definitions}} for a list with one definition a line, {{descriptions}} for
// the same without brackets. An empty file
// means no system message; an instruction is never empty.
//
// In sp.txt a line "---" may part the system message from one user message that
// holds {{conversation}}, lines of speakers and texts, in place of the chat; the
// planner then answers with the bare name. An rg.txt that holds {{strategy}} and
// {{definition}} is given the strategy there, and not as the beginning of its answer.
func loadPrompts(open func(file string) ([]byte, error)) (Prompts, error) {
	p := Prompts{system: make(map[Role]string, 3), instruction: make(map[Instruction]string, 5)}
	var names, definitions, descriptions []string
	for _, s := range Strategies() {
		names = append(names, s.Bracketed())
		definitions = append(definitions, "- "+s.Bracketed()+": "+s.Definition())
		descriptions = append(descriptions, "- "+s.String()+": "+s.Definition())
	}
	fill := strings.NewReplacer("{{strategies}}", strings.Join(names, ", "), "{{definitions}}", strings.Join(definitions, "\n"),
		"{{descriptions}}", strings.Join(descriptions, "\n"))
	read := func(file string, slots ...string) (string, error) {
		data, err := open(file)
		if err != nil {
			return "", fmt.Errorf("esc: prompts: %w", err)
		}
		text := strings.TrimSpace(fill.Replace(string(data)))
		rest := text
		for _, slot := range slots {
			rest = strings.ReplaceAll(rest, slot, "")
		}
		if i := strings.Index(rest, "{{"); i >= 0 {
			return "", fmt.Errorf("esc: prompts: %s: unknown placeholder %s; there are %s", file, quoteShort(rest[i:]),
				strings.Join(append([]string{"{{strategies}}", "{{definitions}}", "{{descriptions}}"}, slots...), ", "))
		}
		return text, nil
	}
	slots := map[Role][]string{SP: {conversationSlot}, RG: {strategySlot, definitionSlot}}
	var err error
	for _, role := range Roles() {
		if p.system[role], err = read(string(role)+".txt", slots[role]...); err != nil {
			return Prompts{}, err
		}
	}
	var parted bool
	p.system[SP], p.conversation, parted = strings.Cut(p.system[SP], "\n---\n")
	if parted != strings.Contains(p.conversation, conversationSlot) || strings.Contains(p.system[SP], conversationSlot) {
		return Prompts{}, fmt.Errorf("esc: prompts: sp.txt: %s stands in the user message, after a line \"---\", and there alone", conversationSlot)
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

// Template is what a role's prompts are made of, for programs that build them
// themselves.
type Template struct {
	// System is the system message, "" for none. That of rg may hold {{strategy}} and
	// {{definition}}, those of the strategy that is given.
	System string `json:"system"`
	// User is the one user message in place of the chat, with {{conversation}} in it,
	// the chat's Transcript; "": the chat.
	User string `json:"user,omitempty"`
	// AnswerPrefix is what the assistant's message begins with, given, with
	// {{strategy}} in it; "": nothing.
	AnswerPrefix string `json:"answer_prefix,omitempty"`
	// Names is how the role writes {{strategy}} at the beginning of its answer; "" where it
	// writes none.
	Names string `json:"names,omitempty"`
	// HistoryStrategies says whether the chat's past strategies are left in.
	HistoryStrategies bool `json:"history_strategies"`
}

// Template gives what Prompt makes the role's prompts of.
func (p Prompts) Template(role Role) Template {
	t := Template{System: p.system[role], HistoryStrategies: role == VM || !p.stripped}
	const bracketed = "[" + strategySlot + "]"
	switch {
	case role == RG && !p.givenInSystem():
		t.AnswerPrefix = bracketed
	case role == SP && p.conversation != "":
		t.User, t.Names = p.conversation, strategySlot
	case role != RG:
		t.Names = bracketed
	}
	return t
}

// givenInSystem says whether rg is given the strategy in its system message.
func (p Prompts) givenInSystem() bool { return strings.Contains(p.system[RG], strategySlot) }

// Prompt builds the prompt of a role. context runs from "user" to "user" as in
// Turn; strategy is needed by rg and ignored by the others.
//
// Where rg is given the strategy as the beginning of its answer, that is "[Strategy]"
// without the blank that follows it:
// the blank belongs to the answer, as in the history, where tokenizers join it
// with the response's first word.
func (p Prompts) Prompt(role Role, context []Message, strategy Strategy) (Prompt, error) {
	if len(context) == 0 || context[len(context)-1].Role != UserRole {
		return Prompt{}, errors.New("esc: a prompt's context has to end with the user's message")
	}
	system := p.system[role]
	prompt := Prompt{}
	switch role {
	case VM, SP:
	case RG:
		if !strategy.Valid() {
			return Prompt{}, errors.New("esc: the prompt of rg needs a strategy")
		}
		if p.givenInSystem() {
			system = strings.NewReplacer(strategySlot, strategy.String(), definitionSlot, strategy.Definition()).Replace(system)
		} else {
			prompt.AnswerPrefix = strategy.Bracketed()
		}
	default:
		return Prompt{}, fmt.Errorf("esc: unknown role %s; it is vm, sp or rg", quoteShort(string(role)))
	}
	if p.stripped && role != VM {
		context = withoutStrategies(context)
	}
	if role == SP && p.conversation != "" {
		context = []Message{{UserRole, strings.ReplaceAll(p.conversation, conversationSlot, Transcript(context))}}
	}
	if system != "" {
		prompt.Messages = append(prompt.Messages, Message{SystemRole, system})
	}
	prompt.Messages = append(prompt.Messages, context...)
	return prompt, nil
}

// withoutStrategies is a context in which the assistant's messages begin with the text.
func withoutStrategies(context []Message) []Message {
	out := make([]Message, len(context))
	for i, m := range context {
		if m.Role == AssistantRole {
			for _, s := range Strategies() {
				if text, found := strings.CutPrefix(m.Content, s.Bracketed()+" "); found {
					m.Content = text
					break
				}
			}
		}
		out[i] = m
	}
	return out
}

// Answer returns what the role should write for a strategy and a response under
// these prompts.
func (p Prompts) Answer(role Role, strategy Strategy, response string) string {
	switch {
	case role == SP && p.conversation != "":
		return strategy.String()
	case role == RG && p.givenInSystem():
		return response
	}
	return Answer(role, strategy, response)
}

// Answer returns what a role writes for a strategy and a response where nothing
// is set apart from the chat: the vanilla model everywhere.
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
	return Example{prompt, p.Answer(role, turn.Strategy, turn.Response)}, nil
}
