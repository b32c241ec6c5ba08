package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// Workload is one of the paper's trainings as token data.
type Workload struct {
	Name       string // sp-sft, rg-sft, sp-dpo, rg-dpo or vm-dpo
	Role       esc.Role
	Preference bool // pairs (chosen, rejected) rather than single turns
	Examples   []lm.Example
	Skipped    int // examples left out for their length
}

// kind is what a workload trains.
type kind struct {
	name       string
	role       esc.Role
	preference bool
}

// kinds are the five trainings of the paper (equations 3 to 6, and vanilla DPO).
var kinds = []kind{
	{"sp-sft", esc.SP, false},
	{"rg-sft", esc.RG, false},
	{"sp-dpo", esc.SP, true},
	{"rg-dpo", esc.RG, true},
	{"vm-dpo", esc.VM, true},
}

// Names lists the workloads of training in the paper's order.
func Names() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Options say what workloads are prepared from.
type Options struct {
	Prompts   string // a set of esc.BuiltinPrompts
	MaxTokens int    // longer sequences are left out
	Dialogues int    // so many of the split, drawn by Seed; 0: all
	Seed      uint64 // of the dialogues drawn and of the rejected sides
}

// preparer turns turns into token sequences.
type preparer struct {
	tok     *tokens.Tokenizer
	prompts esc.Prompts
	options Options
}

func newPreparer(tok *tokens.Tokenizer, options Options) (*preparer, error) {
	if options.MaxTokens < 1 {
		return nil, fmt.Errorf("sequences of at most %d tokens: give a positive number", options.MaxTokens)
	}
	prompts, err := esc.BuiltinPrompts(options.Prompts)
	if err != nil {
		return nil, err
	}
	return &preparer{tok: tok, prompts: prompts, options: options}, nil
}

// Prepare encodes the dialogues' supporter turns as a workload. A workload in
// which nothing is left is an error.
//
// Of a pair, the chosen side is the gold answer. The rejected side is drawn
// from (seed, dialogue, turn): for sp another strategy, for rg the response of
// another turn under the gold strategy, for vm both.
func Prepare(tok *tokens.Tokenizer, dialogues []esc.Dialogue, name string, options Options) (Workload, error) {
	at := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if at < 0 {
		return Workload{}, fmt.Errorf("unknown workload %q: there are %v", name, Names())
	}
	p, err := newPreparer(tok, options)
	if err != nil {
		return Workload{}, err
	}
	w := Workload{Name: name, Role: kinds[at].role, Preference: kinds[at].preference}
	turns := esc.AllTurns(drawDialogues(dialogues, options.Dialogues, options.Seed))
	for _, turn := range turns {
		answers := []string{p.prompts.Answer(w.Role, turn.Strategy, turn.Response)}
		if w.Preference {
			rejected, err := p.reject(w.Role, turn, turns)
			if err != nil {
				return Workload{}, fmt.Errorf("%s: %w", name, err)
			}
			answers = append(answers, rejected)
		}
		example, ok, err := p.example(w.Role, turn, answers)
		switch {
		case err != nil:
			return Workload{}, fmt.Errorf("%s: dialogue %d, turn %d: %w", name, turn.Dialogue, turn.Index, err)
		case ok:
			w.Examples = append(w.Examples, example)
		default:
			w.Skipped++
		}
	}
	if len(w.Examples) == 0 {
		return Workload{}, fmt.Errorf("%s: none of %d turns has at most %d tokens: allow longer ones", name, len(turns), options.MaxTokens)
	}
	return w, nil
}

// Equal is the name of the workload of equal lengths.
const Equal = "equal"

// PrepareEqual cuts the dialogues' chats, one after the other, into sequences
// of length tokens, all but the first of which are labelled: no padding and no
// shared prefix, so that trainers differ in their kernels alone.
func PrepareEqual(tok *tokens.Tokenizer, dialogues []esc.Dialogue, length int, options Options) (Workload, error) {
	if length < 2 {
		return Workload{}, fmt.Errorf("%s: sequences of %d tokens: they need two", Equal, length)
	}
	w := Workload{Name: Equal}
	var ids []int32
	for text := range texts(drawDialogues(dialogues, options.Dialogues, options.Seed)) {
		ids = append(ids, tok.EncodeText(text)...)
	}
	for i := 0; i+length <= len(ids); i += length {
		w.Examples = append(w.Examples, lm.Example{
			Group:     strconv.Itoa(i / length),
			Sequences: []lm.Sequence{{Tokens: ids[i : i+length : i+length], LossFrom: 1}},
		})
	}
	if len(w.Examples) == 0 {
		return Workload{}, fmt.Errorf("%s: the corpus has %d tokens, less than one sequence of %d", Equal, len(ids), length)
	}
	return w, nil
}

// Requests encodes the dialogues' supporter turns as prompts of a role, to be
// answered once each. What does not leave room for answer tokens is left out.
func Requests(tok *tokens.Tokenizer, dialogues []esc.Dialogue, role esc.Role, answer int, options Options) ([]lm.Request, error) {
	p, err := newPreparer(tok, options)
	if err != nil {
		return nil, err
	}
	var requests []lm.Request
	for _, turn := range esc.AllTurns(drawDialogues(dialogues, options.Dialogues, options.Seed)) {
		ids, _, err := p.prompt(role, turn)
		if err != nil {
			return nil, fmt.Errorf("dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
		if len(ids)+answer <= options.MaxTokens {
			requests = append(requests, lm.Request{Prompt: ids, Samples: 1, Group: group(turn.Dialogue)})
		}
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("no prompt of %s leaves room for %d tokens within %d: allow longer ones", role, answer, options.MaxTokens)
	}
	return requests, nil
}

// group names the prefix tree of a dialogue: its turns share their history.
func group(dialogue int) string { return strconv.Itoa(dialogue) }

// prompt encodes what a role is given before it answers, and returns what its
// answer begins with, given too.
func (p *preparer) prompt(role esc.Role, turn esc.Turn) (ids []int32, prefix string, err error) {
	prompt, err := p.prompts.Prompt(role, turn.Context, turn.Strategy)
	if err != nil {
		return nil, "", err
	}
	messages := make([]tokens.Message, len(prompt.Messages))
	for i, m := range prompt.Messages {
		messages[i] = tokens.Message{Role: m.Role, Content: m.Content}
	}
	ids, err = p.tok.ChatPrompt(messages, prompt.AnswerPrefix)
	return ids, prompt.AnswerPrefix, err
}

// example encodes a turn with its answers, which share the prompt to the token;
// ok is false where one of them is too long.
func (p *preparer) example(role esc.Role, turn esc.Turn, answers []string) (e lm.Example, ok bool, err error) {
	prompt, prefix, err := p.prompt(role, turn)
	if err != nil {
		return e, false, err
	}
	e.Group = group(turn.Dialogue)
	for _, answer := range answers {
		tail, err := p.tok.AnswerTokens(prefix, answer)
		if err != nil {
			return e, false, err
		}
		if len(prompt)+len(tail) > p.options.MaxTokens {
			return e, false, nil
		}
		e.Sequences = append(e.Sequences, lm.Sequence{Tokens: slices.Concat(prompt, tail), LossFrom: len(prompt)})
	}
	if len(answers) > 1 {
		// The reference's log-probabilities are zeros: a trainer is given them,
		// since they are computed once for a pair set.
		e.Reference = make([]float64, len(answers))
	}
	return e, true, nil
}

// reject draws a rejected answer that differs from the gold one.
func (p *preparer) reject(role esc.Role, turn esc.Turn, turns []esc.Turn) (string, error) {
	key := draw(p.options.Seed, "rejected", uint64(turn.Dialogue), uint64(turn.Index))
	strategy, response := turn.Strategy, turn.Response
	if role != esc.RG {
		others := uint64(esc.NumStrategies - 1)
		strategy = (turn.Strategy + 1 + esc.Strategy(key[0]%others)) % esc.Strategy(esc.NumStrategies)
	}
	if role != esc.SP {
		first := int(key[1] % uint64(len(turns)))
		for i := range turns {
			if other := turns[(first+i)%len(turns)].Response; other != turn.Response {
				response = other
				break
			}
		}
		if response == turn.Response {
			return "", errors.New("all responses of the corpus are the same: there is no rejected one")
		}
	}
	return p.prompts.Answer(role, strategy, response), nil
}

// drawDialogues keeps n dialogues, drawn by the seed, in their order.
func drawDialogues(dialogues []esc.Dialogue, n int, seed uint64) []esc.Dialogue {
	if n <= 0 || n >= len(dialogues) {
		return dialogues
	}
	keys := make(map[int]uint64, len(dialogues))
	for _, d := range dialogues {
		keys[d.Index] = draw(seed, "dialogue", uint64(d.Index))[0]
	}
	kept := slices.Clone(dialogues)
	slices.SortStableFunc(kept, func(a, b esc.Dialogue) int {
		switch {
		case keys[a.Index] < keys[b.Index]:
			return -1
		case keys[a.Index] > keys[b.Index]:
			return 1
		}
		return 0
	})
	kept = kept[:n]
	slices.SortFunc(kept, func(a, b esc.Dialogue) int { return a.Index - b.Index })
	return kept
}

// draw is the package's only source of chance: numbers from a seed, what they
// are for, and counters.
func draw(seed uint64, purpose string, counters ...uint64) [4]uint64 {
	data := append(binary.LittleEndian.AppendUint64(nil, seed), purpose...)
	data = append(data, 0)
	for _, c := range counters {
		data = binary.LittleEndian.AppendUint64(data, c)
	}
	sum := sha256.Sum256(data)
	var numbers [4]uint64
	for i := range numbers {
		numbers[i] = binary.LittleEndian.Uint64(sum[8*i:])
	}
	return numbers
}

// TrainTokenizer trains a byte-level BPE tokenizer on the chats of dialogues,
// into dir.
func TrainTokenizer(ctx context.Context, dialogues []esc.Dialogue, dir string, vocabulary int) (*tokens.Tokenizer, error) {
	return tokens.TrainBPE(ctx, texts(dialogues), dir, tokens.BPEOptions{VocabSize: vocabulary})
}

func texts(dialogues []esc.Dialogue) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range dialogues {
			for _, m := range esc.Chat(d) {
				if !yield(m.Content) {
					return
				}
			}
		}
	}
}

// DefaultConfig is the shape that engines are compared in: a Llama of about 5
// million parameters at a vocabulary of 4096.
func DefaultConfig(tok *tokens.Tokenizer) lm.Config {
	c := lm.Config{
		ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: 256, IntermediateSize: 688,
		NumHiddenLayers: 4, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 64,
		MaxPositionEmbeddings: 4096, RMSNormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu",
	}
	if eos, ok := tok.EOS(); ok {
		c.EOSTokenIDs = lm.TokenIDs{int(eos)}
	}
	return c
}
