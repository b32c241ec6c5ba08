package models

import (
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/esclab/esclab/results/models/modelstest"
)

// demoDialogues are the sample corpus, and a tokenizer trained on it.
func demoDialogues(t *testing.T) ([]esc.Dialogue, *tokens.Tokenizer) {
	t.Helper()
	dialogues := modelstest.Dialogues(t)
	tok, err := tokens.TrainBPE(t.Context(), modelstest.Texts(dialogues), t.TempDir(), tokens.BPEOptions{VocabSize: 600})
	if err != nil {
		t.Fatal(err)
	}
	return dialogues, tok
}

func encoderFor(t *testing.T, tok *tokens.Tokenizer, role esc.Role, limit int, longer experiments.Longer) *Encoder {
	t.Helper()
	e, err := (&Backbone{Tok: tok, Params: experiments.ModelParams{Prompts: experiments.PromptsTiny, MaxTokens: limit, Longer: longer}}).Encoder(role)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The turns of a dialogue are nested prefixes, whatever the role: that is what
// packing lives on. The loss covers the answer and the end of turn alone.
func TestTurnsOfADialogueAreNestedPrefixes(t *testing.T) {
	dialogues, tok := demoDialogues(t)
	end, err := tok.EndOfTurn()
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range esc.Roles() {
		e := encoderFor(t, tok, role, 1<<20, experiments.LongerFail)
		var before []int32 // the prompt of the turn before, up to its last message's end
		for i, turn := range esc.Turns(dialogues[0]) {
			answer := esc.Answer(role, turn.Strategy, turn.Response)
			sequences, ok, err := e.Answers(turn, answer)
			if err != nil || !ok {
				t.Fatalf("%s, turn %d: ok %v, %v", role, i, ok, err)
			}
			s := sequences[0]
			if s.Tokens[len(s.Tokens)-1] != end {
				t.Errorf("%s, turn %d: the sequence does not end with the end of turn", role, i)
			}
			if got := strings.TrimSpace(tok.DecodeText(s.Tokens[s.LossFrom:])); got != strings.TrimSpace(answer) {
				t.Errorf("%s, turn %d: the loss covers %q, the answer is %q", role, i, got, answer)
			}
			if i > 0 && !slices.Equal(s.Tokens[:len(before)], before) {
				t.Errorf("%s, turn %d does not continue turn %d", role, i, i-1)
			}
			// Every message but the answer's stays as it is in the next turn.
			prompt, err := e.encode(turn.Context, e.under(turn.Strategy))
			if err != nil {
				t.Fatal(err)
			}
			before = prompt[:len(prompt)-len(headOf(t, e, turn))]
		}
	}
}

// Fed as in the paper, planner and generator are trained on the answer alone, and
// long prompts are trimmed from the beginning of the conversation.
func TestPaperPromptsAreEncoded(t *testing.T) {
	dialogues, tok := demoDialogues(t)
	turns := esc.Turns(dialogues[0])
	turn := turns[len(turns)-1]
	params := experiments.ModelParams{Prompts: experiments.PromptsPaper, HistoryStrategies: experiments.HistoryStrip, MaxTokens: 1 << 20, Longer: experiments.LongerTrim}
	for role, want := range map[esc.Role]string{esc.SP: turn.Strategy.String(), esc.RG: turn.Response} {
		e, err := (&Backbone{Tok: tok, Params: params}).Encoder(role)
		if err != nil {
			t.Fatal(err)
		}
		sequences, ok, err := e.Answers(turn, e.Prompts.Answer(role, turn.Strategy, turn.Response))
		if err != nil || !ok {
			t.Fatalf("%s: ok %v, %v", role, ok, err)
		}
		s := sequences[0]
		if got := tok.DecodeText(s.Tokens[s.LossFrom:]); got != want {
			t.Errorf("%s: the loss covers %q, want %q", role, got, want)
		}
		prompt := tok.DecodeText(s.Tokens[:s.LossFrom])
		for _, past := range turns[:len(turns)-1] {
			if strings.Contains(prompt, past.Strategy.Bracketed()+" ") {
				t.Errorf("%s sees the past strategy %s", role, past.Strategy)
			}
		}
		e.limit = len(s.Tokens) - 5
		short, err := e.prompt(turn.Context, turn.Strategy, 8)
		if text := tok.DecodeText(short); err != nil || len(short)+8 > e.limit || !strings.Contains(text, turn.Context[len(turn.Context)-1].Content) {
			t.Errorf("%s: %d tokens under a limit of %d (%v): %q", role, len(short), e.limit, err, text)
		}
	}
}

// headOf is what the prompt has after the last user message: the assistant's
// header and, for rg, the given strategy.
func headOf(t *testing.T, e *Encoder, turn esc.Turn) []int32 {
	t.Helper()
	p, err := e.Prompts.Prompt(e.role, turn.Context, turn.Strategy)
	if err != nil {
		t.Fatal(err)
	}
	with, err := e.tok.ChatPrompt([]tokens.Message{{Role: "user", Content: "x"}}, p.AnswerPrefix)
	if err != nil {
		t.Fatal(err)
	}
	end, err := e.tok.EndOfTurn()
	if err != nil {
		t.Fatal(err)
	}
	return with[slices.Index(with, end)+1:]
}

func TestLongPromptsAreTrimmedFromTheirBeginning(t *testing.T) {
	dialogues, tok := demoDialogues(t)
	turns := esc.Turns(dialogues[0])
	turn := turns[len(turns)-1]
	wide := encoderFor(t, tok, esc.VM, 1<<20, experiments.LongerFail)
	whole, err := wide.encode(turn.Context, wide.under(esc.NoStrategy))
	if err != nil {
		t.Fatal(err)
	}
	e := encoderFor(t, tok, esc.VM, len(whole)-1, experiments.LongerTrim)
	short, err := e.prompt(turn.Context, esc.NoStrategy, 8)
	if err != nil {
		t.Fatal(err)
	}
	if len(short)+8 > e.limit || e.Trimmed != 1 {
		t.Errorf("%d tokens and 8 reserved under a limit of %d; trimmed %d", len(short), e.limit, e.Trimmed)
	}
	last := turn.Context[len(turn.Context)-1].Content
	if text := tok.DecodeText(short); !strings.Contains(text, last) {
		t.Errorf("what the seeker said last is gone: %q", text)
	}

	// What a baseline wrote after the context stays, however long the context is.
	draft, instruction := "[Question] Why now?", e.Prompts.Instruction(esc.Revise)
	short, err = e.fit(turn.Context, func(context []esc.Message) (esc.Prompt, error) {
		return e.Prompts.FollowUp(context, esc.Exchange{Text: draft, Then: esc.Revise})
	}, 8)
	if text := tok.DecodeText(short); err != nil || len(short)+8 > e.limit || !strings.Contains(text, last) || !strings.Contains(text, draft) || !strings.Contains(text, instruction) {
		t.Errorf("%d tokens under a limit of %d: %q (%v)", len(short), e.limit, text, err)
	}

	// One message of ten thousand words still fits.
	huge := []esc.Message{{Role: esc.UserRole, Content: strings.Repeat("tired ", 10000) + "help me"}}
	cut, err := encoderFor(t, tok, esc.VM, 64, experiments.LongerTrim).prompt(huge, esc.NoStrategy, 16)
	if err != nil {
		t.Fatal(err)
	}
	if len(cut) > 48 || !strings.Contains(tok.DecodeText(cut), "help me") {
		t.Errorf("%d tokens: %q", len(cut), tok.DecodeText(cut))
	}
}

func TestLongerSkipsOrFails(t *testing.T) {
	dialogues, tok := demoDialogues(t)
	turn := esc.Turns(dialogues[0])[2]
	answer := esc.Answer(esc.VM, turn.Strategy, turn.Response)
	e := encoderFor(t, tok, esc.VM, 10, experiments.LongerSkip)
	if _, ok, err := e.Answers(turn, answer); ok || err != nil || e.Skipped != 1 {
		t.Errorf("skip: ok %v, %v, skipped %d", ok, err, e.Skipped)
	}
	e = encoderFor(t, tok, esc.VM, 10, experiments.LongerFail)
	if _, _, err := e.Answers(turn, answer); err == nil || !strings.Contains(err.Error(), "turn 2") || !strings.Contains(err.Error(), "limits.max_tokens") {
		t.Errorf("fail: the error %v does not name turn and remedy", err)
	}
}
