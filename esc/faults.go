package esc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Faults reads every dialogue of a corpus file on its own and gives what is wrong
// with each, at most so many; more is how many others there are. What breaks the
// file's own JSON ends it, since nobody knows where the next dialogue begins.
// Unmapped strategies are the survey's: see SurveyCorpus.
func Faults(path string, reading Reading, most int) (faults []error, more int, err error) {
	if reading.Limits == (Limits{}) {
		reading.Limits = DefaultLimits()
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("corpus file: %w", err)
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, reading.Limits.FileBytes))
	if err != nil {
		return nil, 0, fmt.Errorf("corpus file %s: %w", path, err)
	}
	add := func(err error) {
		if len(faults) == most {
			more++
			return
		}
		faults = append(faults, err)
	}
	for i, element := range elements(raw, func(err error) { add(fmt.Errorf("%s: %w", path, err)) }) {
		var s Survey
		_, err := s.read(path, bytes.NewReader(element), reading)
		var fault *DataError
		if errors.As(err, &fault) {
			fault.Dialogue, fault.Line = i, 0
		}
		if err != nil {
			add(err)
		}
	}
	return faults, more, nil
}

// elements gives each dialogue of an array or of JSON lines as an array of its own.
func elements(raw []byte, broken func(error)) [][]byte {
	var all [][]byte
	raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\ufeff")))
	if !bytes.HasPrefix(raw, []byte("[")) {
		for line := range bytes.Lines(raw) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				all = append(all, append(append([]byte("["), line...), ']'))
			}
		}
		return all
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token()
	for err == nil && d.More() {
		var one json.RawMessage
		if err = d.Decode(&one); err == nil {
			all = append(all, append(append([]byte("["), one...), ']'))
		}
	}
	if err != nil {
		broken(fmt.Errorf("after %d dialogues: %w", len(all), err))
	}
	return all
}
