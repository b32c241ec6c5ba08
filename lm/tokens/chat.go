package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// EndOfTurn returns the special token with which the chat template ends the
// assistant's turn (Qwen2.5: <|im_end|>, Llama 3: <|eot_id|>).
func (t *Tokenizer) EndOfTurn() (int32, error) {
	if t.chat.err != nil {
		return 0, fmt.Errorf("tokens: end of turn: %w", t.chat.err)
	}
	return t.chat.end, nil
}

// ChatPrompt returns the ids of messages followed by the beginning of an
// assistant's turn and answerPrefix (what the assistant's answer is made to
// begin with, such as "[Question]"; may be empty).
//
// Texts between special tokens are tokenized one by one, an assistant's
// content apart from the header before it. So where one chat continues
// another, its ids continue the other's ids, and the ids of a prompt do not
// depend on what follows it. White space at the end of answerPrefix belongs to
// the answer (see AnswerTokens), and so does a generated answer's first space.
func (t *Tokenizer) ChatPrompt(messages []Message, answerPrefix string) ([]int32, error) {
	c := t.chat
	if c.err != nil {
		return nil, fmt.Errorf("tokens: chat prompt: %w", c.err)
	}
	pieces, err := c.skeleton(messages, true)
	if err != nil {
		return nil, fmt.Errorf("tokens: chat prompt: %w", err)
	}
	var ids []int32
	var run string // text since the last special token or border
	flush := func() {
		ids = append(ids, t.runTokens(run)...)
		run = ""
	}
	for _, piece := range pieces {
		if piece.message >= 0 {
			m := messages[piece.message]
			if m.Role == roleAssistant {
				flush()
			}
			run += trimContent(m.Content, piece.trimL, piece.trimR)
			continue
		}
		for text := piece.text; text != ""; {
			tok, start, end, ok := t.anyAdded.next(text, 0)
			if !ok {
				run += text
				break
			}
			run += text[:start]
			flush()
			ids = append(ids, tok.ID)
			text = text[end:]
		}
	}
	flush()
	prefix, _ := t.answerSides(answerPrefix, "")
	return append(ids, t.runTokens(prefix)...), nil
}

// AnswerTokens returns the ids of an answer after ChatPrompt(messages,
// answerPrefix), with the token that ends the turn. After a prefix the answer
// begins with exactly one space, which is the answer's first token's.
func (t *Tokenizer) AnswerTokens(answerPrefix, answer string) ([]int32, error) {
	if t.chat.err != nil {
		return nil, fmt.Errorf("tokens: answer tokens: %w", t.chat.err)
	}
	_, text := t.answerSides(answerPrefix, answer)
	return append(t.EncodeText(text), t.chat.end), nil
}

// ChatTokens returns the ids of ChatPrompt followed by those of AnswerTokens,
// and where the latter begin: the loss is on ids[lossFrom:].
func (t *Tokenizer) ChatTokens(messages []Message, answerPrefix, answer string) (ids []int32, lossFrom int, err error) {
	prompt, err := t.ChatPrompt(messages, answerPrefix)
	if err != nil {
		return nil, 0, err
	}
	rest, err := t.AnswerTokens(answerPrefix, answer)
	if err != nil {
		return nil, 0, err
	}
	return append(prompt, rest...), len(prompt), nil
}

// answerSides splits an assistant's content at the border between prompt and
// answer.
func (t *Tokenizer) answerSides(answerPrefix, answer string) (prompt, rest string) {
	prompt = strings.TrimRightFunc(answerPrefix, unicode.IsSpace)
	if prompt == "" {
		return "", trimContent(answer, t.chat.trimL, t.chat.trimR)
	}
	prompt = trimContent(prompt, t.chat.trimL, false)
	return prompt, " " + trimContent(answer, true, t.chat.trimR)
}

const cachedRuns = 1 << 16

// runTokens is EncodeText with a memory: consecutive turns of a dialogue
// repeat all their texts. The result must not be changed.
func (t *Tokenizer) runTokens(text string) []int32 {
	if text == "" {
		return nil
	}
	c := t.chat
	c.mu.Lock()
	ids, ok := c.runs[text]
	c.mu.Unlock()
	if ok {
		return ids
	}
	ids = slices.Clip(t.EncodeText(text))
	c.mu.Lock()
	if len(c.runs) >= cachedRuns {
		clear(c.runs)
	}
	c.runs[text] = ids
	c.mu.Unlock()
	return ids
}

// conversations are the shapes of what the stages render: every prompt has a system message, then the user's and the
// assistant's messages in turn.
var conversations = [][]Message{
	{{"system", "a"}, {"user", "b"}},
	{{"system", "a"}, {"user", "b"}, {roleAssistant, "c"}, {"user", "d"}},
}

// Check says why the tokenizer or its chat template cannot be used with a
// model whose embedding has so many rows and whose config.json lists these ids
// as EOS: ids without a row, no template that renders what the stages ask for,
// no EOS in the vocabulary.
func (t *Tokenizer) Check(rows int, eos []int) error {
	if t.VocabSize() > rows {
		return fmt.Errorf("tokens: tokenizer has %d tokens but the model's embedding has %d rows: they are not of one model", t.VocabSize(), rows)
	}
	if t.chat.err != nil {
		return fmt.Errorf("tokens: chat template: %w", t.chat.err)
	}
	if _, ok := t.EOS(); !ok {
		return errors.New("tokens: tokenizer_config.json names no eos_token of the vocabulary")
	}
	for _, id := range eos {
		if id < 0 || id >= rows {
			return fmt.Errorf("tokens: config.json: eos_token_id %d is outside the vocabulary of %d", id, rows)
		}
	}
	for _, chat := range conversations {
		prompt, err := t.ChatPrompt(chat, "")
		if err != nil {
			return fmt.Errorf("a conversation with a system message and %d of user and assistant, as every prompt has them: %w", len(chat)-1, err)
		}
		if bos, ok := t.BOS(); ok && len(prompt) > 1 && prompt[0] == bos && prompt[1] == bos {
			return errors.New("tokens: chat template begins with two BOS tokens")
		}
	}
	return nil
}
