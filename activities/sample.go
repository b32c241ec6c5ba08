package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
)

// rowsFile is the checkpoint of a stage that samples: the rows so far.
const rowsFile = "rows.jsonl"

// chunkDialogues is how many dialogues are sampled together. Chunks have fixed
// borders, so an interrupted stage goes on at one of them and gives the rows
// that it would have given without the interruption.
const chunkDialogues = 64

// sampler answers turns with one role's model.
type sampler struct {
	k   *kernel
	gen *lm.Generator
	enc *encoder
	max int // new tokens
}

// sampler prepares a role's model for sampling; adapter may be nil.
func (k *kernel) sampler(role esc.Role, adapter *lm.Adapter, s experiments.Sampling, seed uint64) (*sampler, error) {
	enc, err := newEncoder(k.tok, k.params, role)
	if err != nil {
		return nil, err
	}
	gen, err := lm.NewGenerator(k.engine, k.model, adapter, lm.GenerateConfig{
		MaxNewTokens: s.MaxNewTokens,
		Temperature:  s.Temperature, // zero when greedy
		TopP:         s.TopP,
		Stop:         k.tok.StopIDs(),
		Slots:        s.DecodeBatch,
		Seed:         seed,
	})
	if err != nil {
		return nil, err
	}
	return &sampler{k: k, gen: gen, enc: enc, max: s.MaxNewTokens}, nil
}

// request is one turn to be answered.
type request struct {
	turn     esc.Turn
	strategy esc.Strategy // given to rg; unused by the others
	samples  int
	build    builder // nil: the role's own prompt
}

// answerText is a sampled answer. Cut tells that it reached the limit of new
// tokens before the model ended its turn.
type answerText struct {
	text string
	cut  bool
}

// answer samples the requests' answers, [request][sample]. tokens is
// told the number of new tokens as samples finish.
func (s *sampler) answer(ctx context.Context, requests []request, tokens func(n int)) ([][]answerText, error) {
	batch := make([]lm.Request, len(requests))
	for i, r := range requests {
		build := r.build
		if build == nil {
			build = s.enc.under(r.strategy)
		}
		prompt, err := s.enc.fit(r.turn.Context, build, s.max+1)
		if err != nil {
			return nil, badInput(fmt.Errorf("dialogue %d, turn %d: %w", r.turn.Dialogue, r.turn.Index, err))
		}
		batch[i] = lm.Request{Prompt: prompt, Samples: r.samples, Group: group(r.turn.Dialogue)}
	}
	samples, err := s.gen.Generate(ctx, batch, func(_, _ int, one lm.Sample) { tokens(len(one.Tokens)) })
	if err != nil {
		return nil, err
	}
	texts := make([][]answerText, len(samples))
	for i := range samples {
		texts[i] = make([]answerText, len(samples[i]))
		for j, one := range samples[i] {
			texts[i][j] = answerText{s.k.tok.DecodeText(one.Tokens), !one.Stopped}
		}
	}
	return texts, nil
}

// rows samples turns chunk by chunk and gives the rows as JSON lines. fill
// makes the rows of one chunk of turns and says after each of the perTurn
// samples of a turn how many tokens it has; it is deterministic, so rows that
// a checkpoint holds are taken from there.
func (t *attempt) rows(ctx context.Context, phase string, perTurn int, turns []esc.Turn, fill func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]any, error)) ([]byte, error) {
	chunks := chunk(turns)
	done, rows, err := t.resumeRows(ctx)
	if err != nil {
		return nil, err
	}
	saved, savedAt, turnsDone := done, time.Now(), 0
	for _, c := range chunks[:min(done, len(chunks))] {
		turnsDone += len(c)
	}
	meter := t.meter(phase, turnsDone, len(turns))
	save := func(ctx context.Context) error {
		if done == saved {
			return nil
		}
		err := t.saveCheckpoint(ctx, int64(done), map[string]artifacts.WriteFunc{rowsFile: artifacts.BytesFile(rows.Bytes())})
		if err == nil {
			saved, savedAt = done, time.Now()
		}
		return err
	}
	for ; done < len(chunks); done++ {
		samples := 0
		made, err := fill(ctx, chunks[done], func(n int) {
			samples++
			meter.step(ctx, turnsDone+samples/max(perTurn, 1), float64(n), 0, saved)
		})
		if err != nil {
			if why := context.Cause(ctx); why != nil {
				err = why
			}
			return nil, t.leave(ctx, err, save)
		}
		encode := json.NewEncoder(rows)
		encode.SetEscapeHTML(false)
		for _, row := range made {
			if err := encode.Encode(row); err != nil {
				return nil, err
			}
		}
		turnsDone += len(chunks[done])
		t.log.Debug().Int("chunk", done+1).Int("chunks", len(chunks)).Msg("chunk")
		meter.step(ctx, turnsDone, 0, 0, saved)
		if every := t.in.Checkpoint.EverySeconds; every > 0 && time.Since(savedAt) >= time.Duration(every)*time.Second {
			done++
			err := save(ctx)
			done--
			if err != nil {
				return nil, err
			}
		}
	}
	return rows.Bytes(), nil
}

// resumeRows gives the number of chunks that are done and their rows.
func (t *attempt) resumeRows(ctx context.Context) (int, *bytes.Buffer, error) {
	rows := &bytes.Buffer{}
	c, err := t.checkpoint(ctx)
	if err != nil || c == nil {
		return 0, rows, err
	}
	data, err := t.readCheckpointFile(ctx, c, rowsFile)
	if err != nil {
		return 0, nil, err
	}
	rows.Write(data)
	t.resumed = true
	t.log.Info().Int64("chunk", c.Step).Msg("resumed from a checkpoint")
	return int(c.Step), rows, nil
}

// chunk cuts turns into runs of chunkDialogues dialogues.
func chunk(turns []esc.Turn) [][]esc.Turn {
	var chunks [][]esc.Turn
	first, dialogues := 0, 0
	for i := range turns {
		if i > 0 && turns[i].Dialogue != turns[i-1].Dialogue {
			if dialogues++; dialogues == chunkDialogues {
				chunks, first, dialogues = append(chunks, turns[first:i]), i, 0
			}
		}
	}
	if first < len(turns) {
		chunks = append(chunks, turns[first:])
	}
	return chunks
}
