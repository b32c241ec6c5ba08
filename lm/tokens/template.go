package tokens

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
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
	special map[string]string // by the names under which transformers gives them: "bos_token" …

	mu        sync.Mutex
	template  *jinja
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
var errNoTemplate = errors.New("there is no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json " +
	"(chat_template.json belongs to a processor and is not read)")

// setTemplate compiles the chat template and probes it; err says why there is none. A template that cannot be used
// reports why when it is used, and in Check: texts can be tokenized without one.
func (t *Tokenizer) setTemplate(source string, err error) {
	c := &chatTemplate{special: t.roles, skeletons: map[string][]chatPiece{}, runs: map[string][]int32{}}
	t.chat = c
	if err == nil && source == "" {
		err = errNoTemplate
	}
	if err == nil {
		c.template, err = compileTemplate(source)
	}
	if err != nil {
		c.err = oneLine(err)
		return
	}
	c.err = t.probe()
}

// RenderChat renders messages by the chat template, as transformers' apply_chat_template(tokenize=False) does, today's
// date included where the template asks for it. Training and generation use ChatTokens and ChatPrompt, which keep user
// text apart from the template's, and for which there is no date.
func (t *Tokenizer) RenderChat(messages []Message, addGenerationPrompt bool) (string, error) {
	if t.chat.template == nil {
		return "", fmt.Errorf("tokens: render chat: %w", t.chat.err)
	}
	t.chat.mu.Lock()
	defer t.chat.mu.Unlock()
	text, err := t.chat.render(messages, addGenerationPrompt, time.Now)
	if err != nil {
		return "", fmt.Errorf("tokens: render chat: %w", err)
	}
	return text, nil
}

// render runs the template on messages with what transformers gives it: the special tokens by their names, and no
// tools. now gives the date; nil: there is none. The caller holds mu.
func (c *chatTemplate) render(messages []Message, addGenerationPrompt bool, now func() time.Time) (string, error) {
	list := make([]value.Value, len(messages))
	for i, m := range messages {
		list[i] = fromMessage(m)
	}
	variables := map[string]value.Value{
		"messages": value.FromSlice(list), "add_generation_prompt": value.FromBool(addGenerationPrompt),
		"tools": value.None(), "documents": value.None(),
	}
	for name, token := range c.special {
		variables[name] = value.FromString(token)
	}
	text, err := c.template.render(variables, now)
	if err != nil {
		return "", oneLine(err)
	}
	return text, nil
}

// oneLine is an error of the engine's in one line.
func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

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
	text, err := c.render(marked, addGenerationPrompt, nil)
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
