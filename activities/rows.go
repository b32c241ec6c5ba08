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
// borders: an interrupted stage continues at one of them and makes the same rows
// as an uninterrupted one.
const chunkDialogues = 64

// fillFunc makes the rows of one chunk of turns and says after each of a turn's
// samples how many tokens it has. It is deterministic.
type fillFunc[T any] func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]T, error)

// rowFile holds rows of an artifact, and their encoding as its file has it.
type rowFile[T any] struct {
	all     []T
	encoded bytes.Buffer // JSON lines
}

func (r *rowFile[T]) add(rows []T) error {
	r.all = append(r.all, rows...)
	return results.WriteRows(&r.encoded, rows)
}

// write writes the artifact's file.
func (r *rowFile[T]) write(f *os.File) error {
	_, err := f.Write(r.encoded.Bytes())
	return err
}

// rowMaker makes the rows of a stage, one chunk of turns after the other.
type rowMaker[T any] struct {
	t       *attempt
	fill    fillFunc[T]
	meter   *meter
	perTurn int // samples of a turn
	rows    rowFile[T]
	chunks  int // that rows has
	turns   int // in these chunks
	saved   int // chunks of the newest checkpoint
	savedAt time.Time
}

// makeRows makes rows of turns. Those that a checkpoint holds are taken from
// there.
func makeRows[T any](ctx context.Context, t *attempt, phase string, perTurn int, turns []esc.Turn, fill fillFunc[T]) (*rowFile[T], error) {
	m := &rowMaker[T]{t: t, fill: fill, perTurn: max(perTurn, 1)}
	if err := m.resume(ctx); err != nil {
		return nil, err
	}
	chunks := chunk(turns)
	for _, c := range chunks[:min(m.chunks, len(chunks))] {
		m.turns += len(c)
	}
	m.meter = newMeter(t, phase, m.turns, len(turns))
	for m.chunks < len(chunks) {
		if err := m.next(ctx, chunks[m.chunks]); err != nil {
			return nil, m.t.leave(ctx, err, m.save)
		}
		t.log.Debug().Int("chunk", m.chunks).Int("chunks", len(chunks)).Msg("chunk")
	}
	return &m.rows, nil
}

// resume takes over the chunks that the newest checkpoint holds.
func (m *rowMaker[T]) resume(ctx context.Context) error {
	m.savedAt = time.Now()
	c, err := m.t.latestCheckpoint(ctx)
	if err != nil || c == nil {
		return err
	}
	data, err := m.t.readCheckpointFile(ctx, c, rowsFile)
	if err != nil {
		return err
	}
	if m.rows.all, err = results.DecodeRows[T](data); err != nil {
		return fmt.Errorf("checkpoint at step %d: %s: %w", c.Step, rowsFile, err)
	}
	m.rows.encoded.Write(data)
	m.chunks, m.saved = int(c.Step), int(c.Step)
	m.t.resumed = true
	m.t.log.Info().Int64("chunk", c.Step).Msg("resumed from a checkpoint")
	return nil
}

// next makes the rows of the next chunk.
func (m *rowMaker[T]) next(ctx context.Context, turns []esc.Turn) error {
	samples := 0
	made, err := m.fill(ctx, turns, func(n int) {
		samples++
		m.meter.step(m.turns+samples/m.perTurn, float64(n), 0, m.saved)
	})
	if err != nil {
		return err
	}
	if err := m.rows.add(made); err != nil {
		return err
	}
	m.chunks++
	m.turns += len(turns)
	m.meter.step(m.turns, 0, 0, m.saved)
	if every := m.t.in.Checkpoint.EverySeconds; every > 0 && time.Since(m.savedAt) >= time.Duration(every)*time.Second {
		return m.save(ctx)
	}
	return nil
}

// save commits a checkpoint of the chunks that are made, unless there is one.
func (m *rowMaker[T]) save(ctx context.Context) error {
	if m.chunks == m.saved {
		return nil
	}
	err := m.t.saveCheckpoint(ctx, int64(m.chunks), map[string]artifacts.WriteFunc{rowsFile: artifacts.BytesFile(m.rows.encoded.Bytes())})
	if err == nil {
		m.saved, m.savedAt = m.chunks, time.Now()
	}
	return err
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
