package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
)

// Parts of a corpus, for ReadDialogues.
const (
	TrainPart = fileTrain
	TestPart  = fileTest
)

// Mined is what became of a role's samples: mined.json.
type Mined = mined

// Prediction is one system's reply to a test turn: a line of predictions.jsonl.
type Prediction = prediction

// maxRead bounds the files that are read whole into memory.
const maxRead = 4 << 30

// readFile gives the verified content of a file of a finished stage.
func readFile(ctx context.Context, store *artifacts.Store, fingerprint, name string) ([]byte, error) {
	m, err := store.Lookup(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	ref, err := m.File(name)
	if err != nil {
		return nil, err
	}
	return store.ReadAll(ctx, ref, maxRead)
}

// ReadMined reads what a finished mine stage left: the pairs, and what became
// of the samples. An error that wraps artifacts.ErrNotFound means that the
// stage has not been done.
func ReadMined(ctx context.Context, store *artifacts.Store, fingerprint string) ([]esc.Pair, Mined, error) {
	var found Mined
	data, err := readFile(ctx, store, fingerprint, filePairs)
	if err != nil {
		return nil, found, err
	}
	pairs, err := esc.ReadPairs(filePairs, bytes.NewReader(data))
	if err != nil {
		return nil, found, err
	}
	if data, err = readFile(ctx, store, fingerprint, fileMined); err != nil {
		return nil, found, err
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, found, fmt.Errorf("%s: %w", fileMined, err)
	}
	return pairs, found, nil
}

// ReadDialogues reads a part of a finished corpus stage.
func ReadDialogues(ctx context.Context, store *artifacts.Store, fingerprint, part string) ([]esc.Dialogue, error) {
	data, err := readFile(ctx, store, fingerprint, part)
	if err != nil {
		return nil, err
	}
	return esc.ReadDialogues(part, bytes.NewReader(data), esc.DefaultLimits())
}

// ReadPredictions reads what a finished generate stage left.
func ReadPredictions(ctx context.Context, store *artifacts.Store, fingerprint string) ([]Prediction, error) {
	data, err := readFile(ctx, store, fingerprint, filePredictions)
	if err != nil {
		return nil, err
	}
	rows, err := decodeRows[prediction](data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filePredictions, err)
	}
	return rows, nil
}
