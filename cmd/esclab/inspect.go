package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/internal/jsonerror"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// maxInspectLine is the longest line in bytes that tokenize and logprobs take.
const maxInspectLine = 16 << 20

type tokenizeOptions struct {
	tokenizer string
	special   bool
	around    bool
	chat      bool
}

func (a *app) tokenizeCommand() *cobra.Command {
	var f tokenizeOptions
	c := &cobra.Command{
		Use:   "tokenize --tokenizer DIR [FILE]",
		Short: "Turn texts into token ids with a model's own tokenizer",
		Long: `Turn texts into token ids exactly as the stages do, to look at what a model is
given or to check the tokenizer against another implementation.

In: JSON lines {"text": "..."} from FILE or standard input; other keys and empty
lines are ignored. Out: one line {"ids": [...]} for each, as soon as it is read.

DIR has tokenizer.json in Hugging Face's format (byte-level BPE: GPT-2, Qwen2,
Llama 3). A text is taken as what a user wrote: "<|im_end|>" in it becomes the
characters it is made of. --special reads such names as the special tokens they
are, as Hugging Face's tokenizers do by default; --add-special moreover adds what
the tokenizer puts around a text (Llama 3: <|begin_of_text|> before it).

With --chat, conversations are rendered by the model's own chat template, as
transformers' apply_chat_template does. In: {"messages": [{"role": "user",
"content": "..."}], "add_generation_prompt": true}. Out: {"text": "...", "ids":
[...]}, the ids with special tokens read as such. What the template refuses is
bad input.

Bad input ends the command with exit code 2 and a message that names the line;
what was answered before it stands. A line has at most 16 MiB.`,
		Example: `  echo '{"text": "How are you?"}' | esclab tokenize --tokenizer path/to/Qwen2.5-7B-Instruct
  esclab tokenize --tokenizer path/to/model --special prompts.jsonl > ids.jsonl
  esclab tokenize --tokenizer path/to/model --chat chats.jsonl`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withInput(args, c.InOrStdin(), func(in io.Reader, name string) error {
				return runTokenize(c.Context(), f, in, name, c.OutOrStdout())
			})
		},
	}
	c.Flags().StringVar(&f.tokenizer, "tokenizer", "", "directory with tokenizer.json, or a GGUF file (required)")
	c.Flags().BoolVar(&f.special, "special", false, "read the names of special tokens in the text as those tokens")
	c.Flags().BoolVar(&f.around, "add-special", false, "as --special, and add the tokens that belong around a text")
	c.Flags().BoolVar(&f.chat, "chat", false, "render conversations by the chat template, with their ids")
	c.MarkFlagsMutuallyExclusive("chat", "special")
	c.MarkFlagsMutuallyExclusive("chat", "add-special")
	_ = c.MarkFlagRequired("tokenizer") // fails only for a flag that is not there
	return c
}

// runTokenize answers each line's text with its token ids.
func runTokenize(ctx context.Context, f tokenizeOptions, in io.Reader, name string, out io.Writer) error {
	dir, remove, err := openCheckpoint(f.tokenizer, (*lm.GGUF).WriteTokenizer)
	if err != nil {
		return fmt.Errorf("--tokenizer %s: %w", f.tokenizer, err)
	}
	tok, err := tokens.Load(dir)
	remove()
	if err != nil {
		return fmt.Errorf("--tokenizer %s: %w", f.tokenizer, err)
	}
	encode := tok.EncodeText
	switch {
	case f.around:
		encode = tok.EncodeWithSpecial
	case f.special:
		encode = tok.Encode
	}
	for l, err := range jsonLines(ctx, in, name) {
		if err != nil {
			return err
		}
		if f.chat {
			if err := renderChat(tok, l, out); err != nil {
				return err
			}
			continue
		}
		var text *string
		if err := l.field("text", &text); err != nil {
			return err
		}
		ids := encode(*text)
		if ids == nil {
			ids = []int32{} // an empty text has no ids: a list all the same
		}
		if err := writeLine(out, struct {
			IDs []int32 `json:"ids"`
		}{ids}); err != nil {
			return failed(err)
		}
	}
	return nil
}

// renderChat answers one line's conversation with its text and ids.
func renderChat(tok *tokens.Tokenizer, l jsonLine, out io.Writer) error {
	var messages *[]tokens.Message
	if err := l.field("messages", &messages); err != nil {
		return fmt.Errorf(`%s: "messages" has to be a list of objects with the texts "role" and "content"`, l.where)
	}
	prompt := false
	if _, given := l.fields["add_generation_prompt"]; given {
		var value *bool
		if err := l.field("add_generation_prompt", &value); err != nil {
			return fmt.Errorf(`%s: "add_generation_prompt" has to be true or false`, l.where)
		}
		prompt = *value
	}
	text, err := tok.RenderChat(*messages, prompt)
	if err != nil {
		return fmt.Errorf("%s: %w", l.where, err)
	}
	if err := writeLine(out, struct {
		Text string  `json:"text"`
		IDs  []int32 `json:"ids"`
	}{text, append([]int32{}, tok.Encode(text)...)}); err != nil {
		return failed(err)
	}
	return nil
}

type logprobsOptions struct {
	model, adapter, engine, dtype string
	batch                         int
}

func (a *app) logprobsCommand() *cobra.Command {
	var f logprobsOptions
	c := &cobra.Command{
		Use:   "logprobs --model DIR [FILE]",
		Short: "Say how probable a model finds each token of a sequence",
		Long: `Compute the natural logarithm of the probability that a model gives each token
after those before it, with the kernel that training and mining use: to check a
backbone or an adapter against another implementation, or to score texts.

In: JSON lines {"ids": [...]} from FILE or standard input, as esclab tokenize
writes them; other keys and empty lines are ignored. Out: one line
{"logprobs": [...]} for each, with one number less than there are ids: the first
token has nothing before it. The numbers are float32, each with all its digits.

DIR is a Llama or Qwen2 model in Hugging Face's layout (config.json and
model.safetensors or its shards), or a model's name on the Hugging Face hub
(org/name or org/name@revision), found in the hub's cache; --adapter is a LoRA
adapter for it in PEFT's layout. With --dtype bfloat16 the model's matrices take
half the memory, and answers have the precision of bfloat16.

Lines are answered one by one, as soon as they are read; a line's numbers depend
on no other line. With --batch N they are answered N at a time, and what lines
of a batch have in common at their beginning is computed once: several times
faster where they are the turns of one dialogue.

Bad input ends the command with exit code 2 and a message that names the line;
what was answered before it stands. A line has at most 16 MiB, a sequence at most
the model's max_position_embeddings ids.`,
		Example: `  echo '{"ids": [1, 403, 407, 261]}' | esclab logprobs --model path/to/model
  esclab tokenize --tokenizer base/ texts.jsonl | esclab logprobs --model base/ --adapter sft/ --batch 64`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withInput(args, c.InOrStdin(), func(in io.Reader, name string) error {
				return a.runLogprobs(c.Context(), f, in, name, c.OutOrStdout())
			})
		},
	}
	c.Flags().StringVar(&f.model, "model", "", "directory with config.json and model.safetensors, or a name in the hub's cache (required)")
	c.Flags().StringVar(&f.dtype, "dtype", string(lm.Float32), "how the model's matrices are kept: float32 or bfloat16")
	c.Flags().StringVar(&f.adapter, "adapter", "", "directory with adapter_config.json and adapter_model.safetensors")
	c.Flags().StringVar(&f.engine, "engine", "auto", "engine that computes: auto, go, onnx, xla:cuda, xla:cpu; auto takes a GPU where there is one (--log debug says which)")
	c.Flags().IntVar(&f.batch, "batch", 1, "lines computed together, 1 to 4096")
	_ = c.MarkFlagRequired("model") // fails only for a flag that is not there
	return c
}

// maxInspectBatch bounds what logprobs holds in memory.
const maxInspectBatch = 4096

// runLogprobs answers each line's ids with their log-probabilities.
func (a *app) runLogprobs(ctx context.Context, f logprobsOptions, in io.Reader, name string, out io.Writer) error {
	if f.batch < 1 || f.batch > maxInspectBatch {
		return fmt.Errorf("--batch %d: use 1 to %d", f.batch, maxInspectBatch)
	}
	// What is quick to refuse comes before the weights, which may take minutes to read.
	engine, err := a.openEngine(f.engine)
	if err != nil {
		return fmt.Errorf("--engine: %w", err)
	}
	defer engine.Close()
	if err := engine.Keeps(lm.BaseType(f.dtype)); err != nil {
		return fmt.Errorf("--dtype: %w", err)
	}
	dir, remove, err := openCheckpoint(f.model, (*lm.GGUF).Write)
	if err != nil {
		return fmt.Errorf("--model %s: %w", f.model, err)
	}
	defer remove()
	config, err := lm.ReadConfig(dir)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	var adapter *lm.Adapter
	if f.adapter != "" {
		if adapter, err = lm.LoadAdapter(f.adapter, config); err != nil {
			return fmt.Errorf("--adapter: %w", err)
		}
	}
	model, err := lm.LoadModelWith(dir, lm.LoadOptions{BaseType: lm.BaseType(f.dtype)})
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	a.log.Debug().Str("engine", engine.Name).Str("version", engine.Version).Msg("computing log-probabilities")
	scorer, err := lm.NewScorer(engine, model, adapter, lm.LogProbsOptions{})
	if err != nil {
		return failed(err)
	}
	defer scorer.Close()

	var batch []inspected
	for l, err := range jsonLines(ctx, in, name) {
		var next inspected
		if err == nil {
			next, err = l.sequence(config)
		}
		if err != nil { // what came before the bad line is answered all the same
			return errors.Join(answer(ctx, scorer, batch, out), err)
		}
		if batch = append(batch, next); len(batch) == f.batch {
			if err := answer(ctx, scorer, batch, out); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return answer(ctx, scorer, batch, out)
}

// inspected is one line's sequence and where it stood.
type inspected struct {
	where string
	ids   []int32
}

// answer computes a batch and writes a line for each of its sequences.
func answer(ctx context.Context, scorer *lm.Scorer, batch []inspected, out io.Writer) error {
	var examples []lm.Example
	for _, s := range batch {
		if len(s.ids) > 1 { // a single token has nothing to be predicted from
			examples = append(examples, lm.Example{Sequences: []lm.Sequence{{Tokens: s.ids, LossFrom: 1}}})
		}
	}
	var scores [][]lm.SequenceLogProbs
	if len(examples) > 0 && ctx.Err() == nil {
		var err error
		if scores, err = scorer.LogProbs(ctx, examples); err != nil {
			return failed(fmt.Errorf("%s: %w", batch[0].where, err))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, s := range batch {
		row := struct {
			LogProbs []float64 `json:"logprobs"`
		}{make([]float64, len(s.ids)-1)}
		if len(s.ids) > 1 {
			for i, p := range scores[0][0].Tokens {
				// Widened, so that the digits are those of the float32 number itself.
				if row.LogProbs[i] = float64(p); math.IsNaN(row.LogProbs[i]) || math.IsInf(row.LogProbs[i], 0) {
					return failed(fmt.Errorf("%s: the log-probability of token %d is %v: are the weights damaged?", s.where, i+1, p))
				}
			}
			scores = scores[1:]
		}
		if err := writeLine(out, row); err != nil {
			return failed(err)
		}
	}
	return nil
}

// sequence reads a line's ids and checks them against the model.
func (l jsonLine) sequence(config lm.Config) (inspected, error) {
	s := inspected{where: l.where}
	var ids []*int32 // a null among them would read as 0
	if err := l.field("ids", &ids); err != nil {
		return s, err
	}
	switch {
	case len(ids) == 0:
		return s, fmt.Errorf(`%s: "ids" is empty: a sequence has at least one token`, l.where)
	case len(ids) > config.MaxPositionEmbeddings:
		return s, fmt.Errorf("%s: %d ids, the model takes %d (max_position_embeddings)", l.where, len(ids), config.MaxPositionEmbeddings)
	}
	s.ids = make([]int32, len(ids))
	for i, id := range ids {
		switch {
		case id == nil:
			return s, fmt.Errorf(`%s: "ids"[%d] is null`, l.where, i)
		case *id < 0 || int(*id) >= config.VocabSize:
			return s, fmt.Errorf(`%s: "ids"[%d] is %d, the model's vocabulary goes from 0 to %d`, l.where, i, *id, config.VocabSize-1)
		}
		s.ids[i] = *id
	}
	return s, nil
}

// withInput opens the file that args name; standard input where they name none or "-".
func withInput(args []string, stdin io.Reader, read func(in io.Reader, name string) error) error {
	if len(args) == 0 || args[0] == "-" {
		return read(stdin, "standard input")
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f, args[0])
}

// jsonLine is one line of input, a JSON object.
type jsonLine struct {
	where  string // "name:line"
	fields map[string]json.RawMessage
}

// field decodes a key that has to be there and not null.
func (l jsonLine) field(key string, into any) error {
	raw, ok := l.fields[key]
	if !ok {
		return fmt.Errorf("%s: %q is missing", l.where, key)
	}
	if bytes.Equal(raw, []byte("null")) {
		return fmt.Errorf("%s: %q is null", l.where, key)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %q: %w", l.where, key, jsonerror.Plain(err))
	}
	return nil
}

// jsonLines reads JSON objects line by line, as they come. The reading is done beside the caller, so that a cancelled
// context ends the loop even where nobody writes; the reader is then left to the end of the process.
func jsonLines(ctx context.Context, in io.Reader, name string) iter.Seq2[jsonLine, error] {
	type read struct {
		line jsonLine
		err  error
	}
	return func(yield func(jsonLine, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		lines := make(chan read)
		go func() {
			defer close(lines)
			send := func(r read) bool {
				select {
				case lines <- r:
					return r.err == nil
				case <-ctx.Done():
					return false
				}
			}
			scanner := bufio.NewScanner(in)
			scanner.Buffer(make([]byte, 64<<10), maxInspectLine)
			n := 0
			for scanner.Scan() {
				n++
				text := scanner.Bytes()
				if n == 1 {
					text = bytes.TrimPrefix(text, []byte("\ufeff"))
				}
				if text = bytes.TrimSpace(text); len(text) == 0 {
					continue
				}
				line, err := parseLine(text, fmt.Sprintf("%s:%d", name, n))
				if !send(read{line, err}) {
					return
				}
			}
			if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
				send(read{err: fmt.Errorf("%s:%d: the line is longer than %d MiB: write one JSON object per line", name, n+1, maxInspectLine>>20)})
			} else if err != nil {
				send(read{err: fmt.Errorf("%s:%d: %w", name, n+1, err)})
			}
		}()
		for {
			select {
			case r, ok := <-lines:
				if !ok || !yield(r.line, r.err) || r.err != nil {
					return
				}
			case <-ctx.Done():
				yield(jsonLine{}, ctx.Err())
				return
			}
		}
	}
}

// parseLine parses a line. Text that is not UTF-8 is refused: JSON readers replace its bytes without a word, and the
// ids would be of another text.
func parseLine(text []byte, where string) (jsonLine, error) {
	l := jsonLine{where: where}
	if !utf8.Valid(text) {
		return l, fmt.Errorf("%s: not UTF-8", where)
	}
	if err := json.Unmarshal(text, &l.fields); err != nil {
		return l, fmt.Errorf("%s: not a JSON object: %w", where, jsonerror.Plain(err))
	}
	return l, nil
}

// writeLine writes a value as one line of JSON.
func writeLine(out io.Writer, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	if _, err := out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	return nil
}
