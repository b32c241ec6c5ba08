package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxBody bounds a response in bytes: the longest reply has a few KiB.
const maxBody = 4 << 20

// completion is a response of the chat completions protocol, as far as it is
// read.
type completion struct {
	Choices []choice `json:"choices"`
	Usage   struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	} `json:"usage"`
}

type choice struct {
	FinishReason string `json:"finish_reason"`
	Error        any    `json:"error"` // of a provider behind the endpoint
	Message      struct {
		Content          any    `json:"content"` // text, a list of parts, or null
		Refusal          string `json:"refusal"`
		ReasoningContent any    `json:"reasoning_content"`
		Reasoning        any    `json:"reasoning"`
	} `json:"message"`
}

// content is the text of a message's content, without parts that are thoughts.
func content(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var b strings.Builder
		for _, part := range v {
			if p, ok := part.(map[string]any); ok && (p["type"] == "text" || p["type"] == nil) {
				b.WriteString(content(p["text"]))
			}
		}
		return b.String()
	}
	return ""
}

// reply is a response that got through. problem says why its content cannot
// count, "" where it may.
type reply struct {
	content, problem string
	tokens           int
}

func (c *Client) reply(first choice, maxTokens int) reply {
	r := reply{content: c.redact(content(first.Message.Content))}
	m := first.Message
	switch {
	case m.Refusal != "":
		r.problem = "the model refused: " + cut(c.redact(m.Refusal), 160)
	case first.FinishReason == "content_filter":
		r.problem = "it was cut off by the endpoint's content filter"
	case strings.TrimSpace(r.content) == "":
		r.problem = fmt.Sprintf("the reply is empty (finish_reason %s); a reasoning model?", first.FinishReason)
		if content(m.ReasoningContent)+content(m.Reasoning) != "" {
			r.problem += " All of it is thoughts, beside the content"
		}
	case first.FinishReason == "length":
		r.problem = fmt.Sprintf("it was cut off for its length, %d tokens; keep the reasons short", maxTokens)
		if len(answered(r.content)) == 0 {
			r.problem = fmt.Sprintf("it was cut off for its length, %d tokens, while the model was thinking; a reasoning model?", maxTokens)
		}
	}
	return r
}

// The marks of a model's thoughts. What stands before the last end is a
// thought: templates that put the beginning into the prompt leave it out.
var (
	thoughtEnd   = regexp.MustCompile(`(?is)^.*(</(seed:)?(think|thinking|thought|reasoning)>|\[/think\]|◁/think▷|<\|channel\|>final<\|message\|>)`)
	thoughtBegin = regexp.MustCompile(`(?is)(<(seed:)?(think|thinking|thought|reasoning)>|\[think\]|◁think▷|<\|channel\|>analysis<\|message\|>).*$`)
)

// answered is a reply without the model's thoughts, finished or not.
func answered(reply string) string {
	return strings.TrimSpace(thoughtBegin.ReplaceAllString(thoughtEnd.ReplaceAllString(reply, ""), ""))
}

// maxBroken bounds the places at which a JSON object is looked for in vain.
const maxBroken = 64

// jsonObject finds the one JSON object of a reply. Models without constrained
// output think before it, introduce it and put it into a code fence.
func jsonObject(reply string) (json.RawMessage, error) {
	whole := strings.TrimSpace(reply)
	if strings.HasPrefix(whole, "{") && json.Valid([]byte(whole)) {
		return json.RawMessage(whole), nil
	}
	text := answered(reply)
	if text == "" {
		return nil, errors.New("the reply ends while the model is thinking")
	}
	var found []json.RawMessage
	var broken error
	for at, failures := 0, 0; failures < maxBroken && len(found) < 2; {
		next := strings.IndexByte(text[at:], '{')
		if next < 0 {
			break
		}
		at += next
		if broken != nil && valueOfKey(text[:at]) { // inside of what is broken
			at++
			continue
		}
		var one json.RawMessage
		d := json.NewDecoder(strings.NewReader(text[at:]))
		if err := d.Decode(&one); err != nil {
			if broken == nil {
				broken = err
			}
			failures++
			at++
			continue
		}
		at += int(d.InputOffset())
		if !slices.ContainsFunc(found, func(other json.RawMessage) bool { return sameJSON(one, other) }) {
			found = append(found, one)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, errors.New("there are several different JSON objects in the reply")
	case errors.Is(broken, io.ErrUnexpectedEOF):
		return nil, errors.New("not the JSON object that was asked for: it ends in the middle")
	case broken != nil:
		return nil, fmt.Errorf("not the JSON object that was asked for: %s", cut(broken.Error(), 160))
	}
	return nil, errors.New("not the JSON object that was asked for: there is none")
}

// valueOfKey says whether a text ends where a JSON object's value begins.
func valueOfKey(text string) bool {
	text, ok := strings.CutSuffix(strings.TrimRight(text, " \t\r\n"), ":")
	return ok && strings.HasSuffix(text, `"`)
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// fields is a JSON object of a reply; its keys are in lower case. at is where it
// stands in the reply, for errors, which are told to the model.
type fields struct {
	at     string
	values map[string]any
}

// decode reads the object of a reply, which has exactly these keys.
func decode(reply []byte, keys ...string) (fields, error) {
	data, err := jsonObject(string(reply))
	if err != nil {
		return fields{}, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return fields{}, fmt.Errorf("not the JSON object that was asked for: %s", cut(err.Error(), 160))
	}
	return newFields("", all, keys)
}

func newFields(at string, all map[string]any, keys []string) (fields, error) {
	f := fields{at, map[string]any{}}
	for key, value := range all {
		if value == nil {
			continue
		}
		lower := strings.ToLower(key)
		if _, twice := f.values[lower]; twice {
			return f, fmt.Errorf("%s is there twice", f.name(lower))
		}
		f.values[lower] = value
	}
	for _, key := range keys {
		if f.values[key] == nil {
			return f, fmt.Errorf("%s is missing", f.name(key))
		}
	}
	if len(f.values) > len(keys) {
		where := "there are keys"
		if at != "" {
			where = at + " has keys"
		}
		return f, fmt.Errorf("%s besides %s", where, strings.Join(keys, ", "))
	}
	return f, nil
}

func (f fields) name(key string) string { return strings.TrimPrefix(f.at+"."+key, ".") }

// object is the value of a key, an object with exactly these keys.
func (f fields) object(key string, keys ...string) (fields, error) {
	all, ok := f.values[key].(map[string]any)
	if !ok {
		return fields{}, f.wrong(key, "an object")
	}
	return newFields(f.name(key), all, keys)
}

func (f fields) text(key string) (string, error) {
	s, ok := f.values[key].(string)
	if !ok {
		return "", f.wrong(key, "text")
	}
	return s, nil
}

// whole is a whole number from 0 to most; models like to quote it.
func (f fields) whole(key string, most int) (int, error) {
	n, err := strconv.ParseFloat(fmt.Sprint(f.values[key]), 64)
	if err != nil || n != math.Trunc(n) || n < 0 || n > float64(most) {
		return 0, f.wrong(key, fmt.Sprintf("a whole number from 0 to %d", most))
	}
	return int(n), nil
}

func (f fields) wrong(key, want string) error {
	is, err := json.Marshal(f.values[key])
	if err != nil {
		return fmt.Errorf("%s is not %s", f.name(key), want)
	}
	return fmt.Errorf("%s is %s; it is %s", f.name(key), cut(string(is), 40), want)
}
