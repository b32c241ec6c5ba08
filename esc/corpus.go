package esc

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Source says where a corpus is and how it is split.
type Source struct {
	// Path is a JSON file in ESConv's layout, or a directory that holds
	// train.json, valid.json and test.json (or .jsonl, see PartFile).
	Path string
	// SplitIndex names a file with the positions of the dialogues of each
	// part; empty to split by Seed. It goes with a file, not a directory.
	SplitIndex string
	// Seed of the 8:1:1 split; used where neither of the above decides.
	Seed uint64
	// Reading is how each file is taken.
	Reading Reading
}

// First are the first n dialogues of each split; 0 is all.
func (c Corpus) First(n int) Corpus {
	if n > 0 {
		c.Train, c.Valid, c.Test = c.Train[:min(n, len(c.Train))], c.Valid[:min(n, len(c.Valid))], c.Test[:min(n, len(c.Test))]
	}
	return c
}

// ReadCorpus reads and splits a corpus. Strategies that are none of the eight
// and that Reading does not map are one error for all its files.
func ReadCorpus(source Source) (Corpus, error) {
	var s Survey
	files, err := s.files(source)
	if err == nil {
		err = s.Unmapped()
	}
	if err != nil {
		return Corpus{}, err
	}
	if len(files) == len(parts) {
		return Corpus{Train: files[0], Valid: files[1], Test: files[2]}, nil
	}
	dialogues := files[0]
	if source.SplitIndex == "" {
		corpus, err := Split(dialogues, source.Seed)
		if err != nil {
			return Corpus{}, fmt.Errorf("corpus %s: %w", source.Path, err)
		}
		return corpus, nil
	}
	data, err := os.ReadFile(source.SplitIndex)
	if err != nil {
		return Corpus{}, fmt.Errorf("split index: %w", err)
	}
	corpus, err := SplitByIndex(dialogues, data)
	if err != nil {
		return Corpus{}, fmt.Errorf("split index %s for %s: %w", source.SplitIndex, source.Path, err)
	}
	return corpus, nil
}

// parts are the parts of a corpus that is split already, in the order of Corpus.
var parts = []string{"train", "valid", "test"}

// PartFile names the file of a part in a directory: train.json, or train.jsonl
// where there is none of that name. Both are an error: neither may be ignored.
func PartFile(part string, exists func(name string) bool) (string, error) {
	list, lines := part+".json", part+".jsonl"
	switch {
	case !exists(lines):
		return list, nil
	case exists(list):
		return list, fmt.Errorf("there are both %s and %s; keep one", list, lines)
	}
	return lines, nil
}

// files reads the corpus' one file, or its three parts.
func (s *Survey) files(source Source) ([][]Dialogue, error) {
	info, err := os.Stat(source.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("corpus %s: there is no such file or directory", source.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("corpus: %w", err)
	}
	if !info.IsDir() {
		dialogues, err := s.readFile(source.Path, source.Reading)
		return [][]Dialogue{dialogues}, err
	}
	if source.SplitIndex != "" {
		return nil, fmt.Errorf("corpus %s is a directory with its own parts; an index file (%s) goes with a single file", source.Path, source.SplitIndex)
	}
	files := make([][]Dialogue, len(parts))
	for i, part := range parts {
		name, err := PartFile(part, func(name string) bool {
			_, err := os.Stat(filepath.Join(source.Path, name))
			return err == nil
		})
		if err != nil {
			return nil, fmt.Errorf("corpus directory %s: %w", source.Path, err)
		}
		files[i], err = s.readFile(filepath.Join(source.Path, name), source.Reading)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("corpus directory %s has no %s; it needs train.json, valid.json and test.json", source.Path, name)
		}
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Split divides dialogues 8:1:1 (paper §6.1). Valid and test get n/10 each,
// rounded down but at least 1; train gets the rest, so 1,300 give 1,040, 130
// and 130, and 3 give one each. Fewer than 3 are an error. Which dialogue goes
// where is decided by sorting on SHA-256(seed, position): dialogues keep the
// source's order within their part.
func Split(dialogues []Dialogue, seed uint64) (Corpus, error) {
	n := len(dialogues)
	if n < 3 {
		return Corpus{}, fmt.Errorf("%d dialogues cannot be split into train, valid and test; at least 3 are needed", n)
	}
	order := make([]int, n)
	keys := make([]drawKey, n)
	for i := range order {
		order[i], keys[i] = i, Draw(seed, "split", uint64(i))
	}
	slices.SortFunc(order, func(a, b int) int {
		if c := bytes.Compare(keys[a][:], keys[b][:]); c != 0 {
			return c
		}
		return a - b
	})
	tenth := max(1, n/10)
	valid, test, train := order[:tenth], order[tenth:2*tenth], order[2*tenth:]
	for _, part := range [][]int{valid, test, train} {
		slices.Sort(part)
	}
	return Corpus{Train: pick(dialogues, train), Valid: pick(dialogues, valid), Test: pick(dialogues, test)}, nil
}

// SplitByIndex divides dialogues by a JSON object with the keys train, valid
// and test, each a list of positions from 0; the object may stand alone or
// under the one key "index_in_ESConv_json". Parts keep the lists' order. A
// position that is out of range or named twice is an error; dialogues that no
// list names are counted in Corpus.Unused.
func SplitByIndex(dialogues []Dialogue, index []byte) (Corpus, error) {
	type lists struct {
		Train []int `json:"train"`
		Valid []int `json:"valid"`
		Test  []int `json:"test"`
	}
	var file struct {
		lists
		Nested *lists `json:"index_in_ESConv_json"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(index, []byte("\xef\xbb\xbf")), &file); err != nil {
		return Corpus{}, fmt.Errorf("not an object of train, valid and test: %w", err)
	}
	chosen := file.lists
	if file.Nested != nil {
		chosen = *file.Nested
	}
	owner := make(map[int]string, len(dialogues))
	for _, part := range []struct {
		name      string
		positions []int
	}{{"train", chosen.Train}, {"valid", chosen.Valid}, {"test", chosen.Test}} {
		if len(part.positions) == 0 {
			return Corpus{}, fmt.Errorf("the part %q is empty or missing", part.name)
		}
		for _, p := range part.positions {
			if p < 0 || p >= len(dialogues) {
				return Corpus{}, fmt.Errorf("%s names dialogue %d, but the corpus has 0 to %d", part.name, p, len(dialogues)-1)
			}
			if other, taken := owner[p]; taken {
				return Corpus{}, fmt.Errorf("%s names dialogue %d, which %s has already", part.name, p, other)
			}
			owner[p] = part.name
		}
	}
	return Corpus{
		Train:  pick(dialogues, chosen.Train),
		Valid:  pick(dialogues, chosen.Valid),
		Test:   pick(dialogues, chosen.Test),
		Unused: len(dialogues) - len(owner),
	}, nil
}

// pick copies the dialogues at positions and numbers them anew.
func pick(dialogues []Dialogue, positions []int) []Dialogue {
	part := make([]Dialogue, len(positions))
	for i, p := range positions {
		part[i] = dialogues[p]
		part[i].Index = i
	}
	return part
}

type drawKey = [sha256.Size]byte

// Draw is this package's only source of chance: a hash of the seed, of the
// purpose of the draw, and of the item's own numbers.
func Draw(seed uint64, purpose string, counters ...uint64) drawKey {
	data := binary.LittleEndian.AppendUint64(nil, seed)
	data = append(append(data, purpose...), 0)
	for _, c := range counters {
		data = binary.LittleEndian.AppendUint64(data, c)
	}
	return sha256.Sum256(data)
}
