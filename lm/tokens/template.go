package tokens

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/parser"
	lexer "github.com/nikolalohinski/gonja/v2/tokens"
)

// Message is one message of a chat. Roles are the template's: system, user,
// assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

const roleAssistant = "assistant"

// chatTemplate renders messages by a Jinja chat template.
//
// A template is slow and sees user text, so it is never run on text: it is
// run once for each sequence of roles, on markers in place of the contents,
// and the result (a skeleton) is kept. Contents are then put between the
// skeleton's pieces as plain text, so that nothing in them is ever read as a
// special token, and thousands of turns share a few dozen renderings. A
// template whose layout depends on more of a content than whether it is empty
// is therefore not followed in that.
type chatTemplate struct {
	source   string
	bos, eos string

	mu        sync.Mutex
	template  *exec.Template
	skeletons map[string][]chatPiece
	runs      map[string][]int32 // ids of the texts between special tokens

	// What a probe of the assistant's turn found.
	end          int32 // the special token that ends it
	trimL, trimR bool  // whether the template trims the content
	err          error // why it cannot be used for training and generation
}

// chatPiece is a text of the template, or the content of a message.
type chatPiece struct {
	text         string
	message      int // index, -1 for text
	trimL, trimR bool
}

// markers stand in for contents; the white space around them shows where the
// template trims.
const (
	markStart, markEnd = "\uE000", "\uE001"
	markSpace          = "\v"
)

const cachedSkeletons = 1 << 12

// errNoTemplate is returned by the chat methods of a tokenizer without one.
var errNoTemplate = errors.New("tokenizer_config.json has no chat_template")

// setTemplate compiles the chat template and probes it. Only a template that
// does not parse is an error here; one that cannot be used reports why when it
// is used, and in Check.
func (t *Tokenizer) setTemplate(source string) error {
	c := &chatTemplate{source: source, bos: t.bos, eos: t.eos, err: errNoTemplate,
		skeletons: map[string][]chatPiece{}, runs: map[string][]int32{}}
	t.chat = c
	if source == "" {
		return nil
	}
	var err error
	if c.template, err = compileTemplate(source); err != nil {
		return err
	}
	c.err = t.probe()
	return nil
}

// Limits of chat templates, which come with checkpoints from anywhere. Those of
// Qwen2.5 and Llama 3.1 have 2 to 4 kB and write some hundred bytes a message.
const (
	maxTemplate  = 256 << 10 // bytes of its source
	maxRendering = 4 << 20   // bytes that it writes
	maxRange     = 10_000    // numbers of one range()
)

// templateStatements are the statements that a chat template may have. Those
// that read other files (include, import, from, extends) have no place in one,
// and a macro that calls itself would exhaust the stack, which no recover mends.
var templateStatements = []string{"autoescape", "break", "continue", "do", "filter", "for", "if", "raw", "set", "with"}

// templateFilters and templateFunctions are what a chat template may call: what
// those of known checkpoints use, without what makes long text of a number
// (center, indent, format, lipsum).
var (
	templateFilters = []string{"abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items", "join", "last",
		"length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "sort",
		"string", "sum", "title", "tojson", "trim", "unique", "upper"}
	templateFunctions = []string{"dict", "namespace"}
)

// noFiles is a template loader that has no files.
type noFiles struct{}

var errNoFiles = errors.New("a chat template reads no other files")

func (noFiles) Read(string) (io.Reader, error)           { return nil, errNoFiles }
func (noFiles) Resolve(string) (string, error)           { return "", errNoFiles }
func (f noFiles) Inherit(string) (loaders.Loader, error) { return f, nil }

// boundedRange is Jinja's range with at most maxRange numbers.
func boundedRange(_ *exec.Evaluator, params *exec.VarArgs) ([]int, error) {
	bounds := []int{0, 0, 1} // start, stop, step
	if n := len(params.Args); n < 1 || n > 3 {
		return nil, exec.ErrInvalidCall(errors.New("range takes one to three integers"))
	}
	for i, arg := range params.Args {
		if !arg.IsInteger() {
			return nil, exec.ErrInvalidCall(errors.New("range takes one to three integers"))
		}
		bounds[i] = arg.Integer()
	}
	if len(params.Args) == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return nil, exec.ErrInvalidCall(errors.New("range with a step of 0"))
	}
	var numbers []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(numbers) == maxRange {
			return nil, exec.ErrInvalidCall(fmt.Errorf("range of more than %d numbers", maxRange))
		}
		numbers = append(numbers, i)
	}
	return numbers, nil
}

// limitedWriter refuses to grow beyond a limit.
type limitedWriter struct{ strings.Builder }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.Len()+len(p) > maxRendering {
		return 0, fmt.Errorf("the template writes more than %d bytes", maxRendering)
	}
	return w.Builder.Write(p)
}

// compileTemplate parses a chat template with the settings of transformers'
// environment (trim_blocks, lstrip_blocks) and its raise_exception.
func compileTemplate(source string) (template *exec.Template, err error) {
	defer recovered(&err)
	if len(source) > maxTemplate {
		return nil, fmt.Errorf("a template of %d bytes, at most %d", len(source), maxTemplate)
	}
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true
	context := exec.EmptyContext().Update(builtins.GlobalVariables)
	for _, function := range templateFunctions {
		value, ok := builtins.GlobalFunctions.Get(function)
		if !ok {
			return nil, fmt.Errorf("the template engine has no function %q", function)
		}
		context.Set(function, value)
	}
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{})
	for _, filter := range templateFilters {
		apply, ok := builtins.Filters.Get(filter)
		if !ok {
			return nil, fmt.Errorf("the template engine has no filter %q", filter)
		}
		if err := filters.Register(filter, apply); err != nil {
			return nil, err
		}
	}
	context.Set("range", boundedRange)
	context.Set("raise_exception", func(message string) (string, error) { return "", errors.New(message) })
	// A text times a number is as long as the number says.
	for stream := lexer.LexAll(source, settings); !stream.End(); stream.Next() {
		if kind := stream.Current().Type; kind == lexer.Multiply || kind == lexer.Power {
			return nil, errors.New("a template that multiplies is not supported")
		}
	}
	const name = "chat_template"
	statements := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{})
	for _, statement := range templateStatements {
		parse, ok := builtins.ControlStructures.Get(statement)
		if !ok {
			return nil, fmt.Errorf("the template engine has no statement %q", statement)
		}
		if err := statements.Register(statement, parse); err != nil {
			return nil, err
		}
	}
	loader, err := loaders.NewShiftedLoader(name, strings.NewReader(source), noFiles{})
	if err != nil {
		return nil, err
	}
	return exec.NewTemplate(name, settings, loader, &exec.Environment{
		Context: context, Filters: filters, Tests: builtins.Tests,
		ControlStructures: statements, Methods: builtins.Methods,
	})
}

// recovered turns a panic of the template engine into an error.
func recovered(err *error) {
	switch r := recover().(type) {
	case nil:
	case error:
		*err = fmt.Errorf("chat_template: %w", r)
	default:
		*err = fmt.Errorf("chat_template: %v", r)
	}
}

// RenderChat renders messages by the chat template, as transformers'
// apply_chat_template(tokenize=False) does. Training and generation use
// ChatTokens and ChatPrompt, which keep user text apart from the template's.
func (t *Tokenizer) RenderChat(messages []Message, addGenerationPrompt bool) (string, error) {
	if t.chat.template == nil {
		return "", fmt.Errorf("tokens: render chat: %w", t.chat.err)
	}
	t.chat.mu.Lock()
	defer t.chat.mu.Unlock()
	text, err := t.chat.render(messages, addGenerationPrompt)
	if err != nil {
		return "", fmt.Errorf("tokens: render chat: %w", err)
	}
	return text, nil
}

func (c *chatTemplate) render(messages []Message, addGenerationPrompt bool) (text string, err error) {
	defer recovered(&err)
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	var out limitedWriter
	err = c.template.Execute(&out, exec.NewContext(map[string]any{
		"messages": list, "add_generation_prompt": addGenerationPrompt,
		"bos_token": c.bos, "eos_token": c.eos,
	}))
	return out.String(), err
}

// skeleton returns the pieces of a chat with these roles.
func (c *chatTemplate) skeleton(messages []Message, addGenerationPrompt bool) ([]chatPiece, error) {
	var key strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&key, "%q", m.Role)
		if m.Content == "" {
			key.WriteByte('-')
		}
	}
	if addGenerationPrompt {
		key.WriteByte('+')
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if pieces, ok := c.skeletons[key.String()]; ok {
		return pieces, nil
	}
	marked := make([]Message, len(messages))
	for i, m := range messages {
		marked[i].Role = m.Role
		if m.Content != "" {
			marked[i].Content = fmt.Sprint(markSpace, markStart, i, markEnd, markSpace)
		}
	}
	text, err := c.render(marked, addGenerationPrompt)
	if err != nil {
		return nil, err
	}
	pieces, err := cutMarkers(text, len(messages))
	if err != nil {
		return nil, err
	}
	if len(c.skeletons) >= cachedSkeletons {
		clear(c.skeletons)
	}
	c.skeletons[key.String()] = pieces
	return pieces, nil
}

func cutMarkers(text string, messages int) ([]chatPiece, error) {
	var pieces []chatPiece
	for {
		before, rest, found := strings.Cut(text, markStart)
		if !found {
			return append(pieces, chatPiece{text: text, message: -1}), nil
		}
		number, after, found := strings.Cut(rest, markEnd)
		index := 0
		if _, err := fmt.Sscanf(number, "%d", &index); !found || err != nil || index < 0 || index >= messages {
			return nil, errors.New("the template changes the contents of messages, which is not supported")
		}
		before, spaceL := strings.CutSuffix(before, markSpace)
		after, spaceR := strings.CutPrefix(after, markSpace)
		pieces = append(pieces, chatPiece{text: before, message: -1},
			chatPiece{message: index, trimL: !spaceL, trimR: !spaceR})
		text = after
	}
}

func trimContent(content string, left, right bool) string {
	if left {
		content = strings.TrimLeftFunc(content, unicode.IsSpace)
	}
	if right {
		content = strings.TrimRightFunc(content, unicode.IsSpace)
	}
	return content
}

// probe learns how the template frames an assistant's turn, and refuses a
// template whose generation prompt is not the beginning of such a turn or
// whose turns do not end with a special token: a model could then not be
// trained on what it is asked for.
func (t *Tokenizer) probe() error {
	c := t.chat
	chat := []Message{{"user", "a"}, {roleAssistant, "b"}}
	prompt, err := c.skeleton(chat[:1], true)
	if err != nil {
		return err
	}
	whole, err := c.skeleton(chat, false)
	if err != nil {
		return err
	}
	var before, after string
	var answer *chatPiece
	for i := range whole {
		switch {
		case whole[i].message == 1 && answer == nil:
			answer = &whole[i]
		case answer != nil:
			after += whole[i].text
		default:
			before += whole[i].text
		}
	}
	var asked string
	for _, piece := range prompt {
		asked += piece.text
	}
	if answer == nil {
		return errors.New("the template leaves the assistant's content out")
	}
	if asked != before {
		return fmt.Errorf("the generation prompt %q is not how an assistant's turn begins, %q", asked, before)
	}
	tok, start, _, ok := t.anyAdded.next(after, 0)
	if !ok || start != 0 {
		return fmt.Errorf("the assistant's turn ends with %q, not with a special token", after)
	}
	c.end, c.trimL, c.trimR = tok.ID, answer.trimL, answer.trimR
	return nil
}
