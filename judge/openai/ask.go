package openai

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/esclab/esclab/judge"
)

// maxReply bounds a reply in tokens: five reasons of a sentence need a third.
const maxReply = 1024

// protocol names how questions are put and answers read; it is part of the
// cache's keys.
const protocol = "judge-1"

// message is one message of a question.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// question is a request as it counts: what influences the reply, and not how
// it is sent. Its digest is the key of the reply in the cache.
type question struct {
	Protocol    string         `json:"protocol"`
	BaseURL     string         `json:"base_url"` // one name can mean another model elsewhere
	Model       string         `json:"model"`
	Temperature float64        `json:"temperature"`
	MaxTokens   int            `json:"max_tokens"`
	Task        string         `json:"task"`
	Schema      map[string]any `json:"schema"`
	Messages    []message      `json:"messages"`
}

func (q question) key() (string, error) {
	data, err := json.Marshal(q) // map keys come sorted
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// kept is what the cache holds of a question: the reply that could be used, and
// what it took to get it.
type kept struct {
	Model  string          `json:"model"`
	Task   string          `json:"task"`
	Reply  json.RawMessage `json:"reply"`
	Tokens int             `json:"tokens"`
	Asked  int             `json:"asked"`
}

// ask puts a task's question to the model, or takes the reply from the cache.
func ask[T any](ctx context.Context, c *Client, t task[T], values map[string]string) (T, error) {
	var none T
	values["format"], values["strategies"], values["definitions"] = t.format, strategies(), definitions(t.classes)
	system, user, err := c.o.Prompts.Fill(t.prompt, values)
	if err != nil {
		return none, err
	}
	q := question{
		Protocol: protocol, BaseURL: strings.TrimSuffix(c.o.BaseURL, "/"), Model: c.o.Model, Temperature: c.o.Temperature,
		MaxTokens: maxReply, Task: string(t.prompt), Schema: t.schema,
		Messages: []message{{"system", system}, {"user", user}},
	}
	key, err := q.key()
	if err != nil {
		return none, fmt.Errorf("openai judge: %w", err)
	}
	// Whoever asks the same at the same time waits for the one reply.
	answer, err, _ := c.flight.Do(key, func() (any, error) {
		if value, ok, err := cached(ctx, c, t, key); err != nil || ok {
			return value, err
		}
		return askAnew(ctx, c, t, q, key)
	})
	if err != nil {
		return none, err
	}
	return answer.(T), nil
}

// cached looks a reply up. One that cannot be read counts as none.
func cached[T any](ctx context.Context, c *Client, t task[T], key string) (T, bool, error) {
	var none T
	if c.o.Cache == nil {
		return none, false, nil
	}
	data, found, err := c.o.Cache.Get(ctx, key)
	if err != nil {
		return none, false, fmt.Errorf("openai judge: cache: %w", err)
	}
	if !found {
		return none, false, nil
	}
	value, err := readKept(t, data)
	return value, err == nil, nil
}

func readKept[T any](t task[T], data []byte) (T, error) {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		var none T
		return none, err
	}
	return t.read(k.Reply)
}

// askAnew asks until the reply has the form that was asked for, telling the
// model each time what was wrong with the last.
func askAnew[T any](ctx context.Context, c *Client, t task[T], q question, key string) (T, error) {
	var none T
	messages, problem, tokens := q.Messages, "", 0
	for asked := 1; asked <= 1+c.o.Repairs; asked++ {
		r, err := c.send(ctx, q, messages)
		if err != nil {
			return none, err
		}
		tokens += r.tokens
		value, said, err := readReply(t, r)
		if err == nil {
			return keep(ctx, c, t, key, value, kept{Model: q.Model, Task: q.Task, Reply: said, Tokens: tokens, Asked: asked})
		}
		problem = c.clean(err.Error())
		shown := cut(r.content, 2000)
		if strings.TrimSpace(shown) == "" {
			shown = "(nothing)"
		}
		messages = append(q.Messages[:len(q.Messages):len(q.Messages)],
			message{"assistant", shown},
			message{"user", "That reply cannot be used: " + problem + ". You are not asked to support anybody, only to judge the reply above. Answer again. " + t.format})
	}
	return none, fmt.Errorf("%w: asked %d times, the last reply: %s", judge.ErrUnusable, 1+c.o.Repairs, problem)
}

// readReply reads a reply, and gives the JSON object in it as well.
func readReply[T any](t task[T], r reply) (value T, said json.RawMessage, err error) {
	if r.problem != "" {
		return value, nil, errors.New(r.problem)
	}
	if said, err = jsonObject(r.content); err != nil {
		return value, nil, err
	}
	value, err = t.read(said)
	return value, said, err
}

// keep stores a reply. If another process has stored one meanwhile, that one
// counts: all that read the cache shall read the same.
func keep[T any](ctx context.Context, c *Client, t task[T], key string, value T, k kept) (T, error) {
	if c.o.Cache == nil {
		return value, nil
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, k.Reply); err != nil {
		return value, fmt.Errorf("openai judge: %w", err)
	}
	k.Reply = compact.Bytes()
	data, err := json.Marshal(k)
	if err != nil {
		return value, fmt.Errorf("openai judge: %w", err)
	}
	// What was paid for is kept, even on the way out.
	stored, err := c.o.Cache.Put(context.WithoutCancel(ctx), key, data)
	if err != nil {
		return value, fmt.Errorf("openai judge: cache: %w", err)
	}
	if first, err := readKept(t, stored); err == nil {
		return first, nil
	}
	return value, nil
}
