package activities

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/results"
)

// rowsFile is the checkpoint of a stage that samples: the rows so far.
const rowsFile = "rows.jsonl"

// chunkDialogues is how many dialogues are sampled together. Chunks have fixed
// borders, so an interrupted stage goes on at one of them and gives the rows
// that it would have given without the interruption.
const chunkDialogues = 64

// rowFile holds rows of an artifact, and their encoding as its file has it.
type rowFile[T any] struct {
	rows    []T
	encoded bytes.Buffer
}

func (r *rowFile[T]) add(rows []T) error {
	r.rows = append(r.rows, rows...)
	return results.WriteRows(&r.encoded, rows)
}

// write writes the artifact's file.
func (r *rowFile[T]) write(f *os.File) error {
	_, err := f.Write(r.encoded.Bytes())
	return err
}

// sampleRows samples turns chunk by chunk and gives the rows. fill makes the
// rows of one chunk of turns and says after each of the perTurn samples of a
// turn how many tokens it has; it is deterministic, so rows that a checkpoint
// holds are taken from there.
func sampleRows[T any](ctx context.Context, t *attempt, phase string, perTurn int, turns []esc.Turn,
	fill func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]T, error)) (*rowFile[T], error) {
	chunks := chunk(turns)
	done, rows, err := resumeRows[T](ctx, t)
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
		err := t.saveCheckpoint(ctx, int64(done), map[string]artifacts.WriteFunc{rowsFile: artifacts.BytesFile(rows.encoded.Bytes())})
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
		if err := rows.add(made); err != nil {
			return nil, err
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
	return rows, nil
}

// resumeRows gives the number of chunks that are done and their rows.
func resumeRows[T any](ctx context.Context, t *attempt) (int, *rowFile[T], error) {
	done := &rowFile[T]{}
	c, err := t.checkpoint(ctx)
	if err != nil || c == nil {
		return 0, done, err
	}
	data, err := t.readCheckpointFile(ctx, c, rowsFile)
	if err != nil {
		return 0, nil, err
	}
	if done.rows, err = results.DecodeRows[T](data); err != nil {
		return 0, nil, fmt.Errorf("checkpoint at step %d: %s: %w", c.Step, rowsFile, err)
	}
	done.encoded.Write(data)
	t.resumed = true
	t.log.Info().Int64("chunk", c.Step).Msg("resumed from a checkpoint")
	return int(c.Step), done, nil
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
