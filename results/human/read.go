package human

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/esclab/esclab/metrics"
)

// Answers of a rater, by what they say of the first system.
const (
	Win = iota
	Tie
	Loss
)

// Ratings are one rater's answers: by question and sample of the key, Win, Tie,
// Loss or metrics.Missing.
type Ratings struct {
	Rater   string
	Answers [][]int // [question][sample]
}

// maxSheet bounds a sheet in bytes.
const maxSheet = 64 << 20

// maxProblems bounds the problems told of one sheet.
const maxProblems = 20

// ReadSheet reads a filled sheet. Columns are found by their names, in any
// order and case; the separator may be a comma, a semicolon or a tab. A, B and
// tie may stand in any case, with spaces, quotes or "reply" around them. Empty
// cells and absent rows are answers not given. All that is wrong is told at
// once, each problem with file, row (as spreadsheets count them) and column.
func ReadSheet(name, rater string, r io.Reader, key Key) (Ratings, error) {
	out := Ratings{Rater: rater, Answers: make([][]int, len(key.Asked))}
	for q := range out.Answers {
		out.Answers[q] = slices.Repeat([]int{metrics.Missing}, len(key.Samples))
	}
	rows, err := readRows(r)
	if err != nil {
		return out, fmt.Errorf("%s: %w", name, err)
	}
	if len(rows) == 0 {
		return out, fmt.Errorf("%s: the sheet is empty", name)
	}
	columns, err := findColumns(rows[0], key.Asked)
	if err != nil {
		return out, fmt.Errorf("%s: row 1: %w", name, err)
	}
	index := map[string]int{}
	for i, p := range key.Samples {
		index[fold(p.ID)] = i
	}
	var problems []error
	complain := func(row int, column, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: row %d, column %q: %s", name, row, column, fmt.Sprintf(format, args...)))
	}
	seen := map[int]int{} // sample → row
	for i, row := range rows[1:] {
		at := i + 2
		id := cell(row, columns[0])
		if id == "" {
			if slices.ContainsFunc(columns[1:], func(c int) bool { return cell(row, c) != "" }) {
				complain(at, columnSample, "it is empty, and the row has answers")
			}
			continue
		}
		sample, known := index[fold(id)]
		if !known {
			complain(at, columnSample, "%q is no sample of this key: is it another sheet's?", id)
			continue
		}
		if before, twice := seen[sample]; twice {
			complain(at, columnSample, "%s stands in row %d already", id, before)
			continue
		}
		seen[sample] = at
		for q, asked := range key.Asked {
			text := cell(row, columns[q+1])
			answer, err := parseAnswer(text, key.Samples[sample].A)
			if err != nil {
				complain(at, asked.Name, "%v", err)
				continue
			}
			out.Answers[q][sample] = answer
		}
	}
	if n := len(problems); n > maxProblems {
		problems = append(problems[:maxProblems], fmt.Errorf("%s: and %d problems more", name, n-maxProblems))
	}
	return out, errors.Join(problems...)
}

// readRows parses CSV of any of the three separators, UTF-8 or UTF-16 with a
// byte-order mark, as spreadsheets save it.
func readRows(r io.Reader) ([][]string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSheet+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSheet {
		return nil, fmt.Errorf("more than %d MiB: is it a sheet?", maxSheet>>20)
	}
	data = bytes.TrimPrefix(decodeUTF16(data), []byte(bom))
	head, _, _ := bytes.Cut(data, []byte("\n"))
	c := csv.NewReader(bytes.NewReader(data))
	c.FieldsPerRecord = -1
	for _, separator := range []rune{';', '\t'} {
		if bytes.Count(head, []byte(string(separator))) > bytes.Count(head, []byte(string(c.Comma))) {
			c.Comma = separator
		}
	}
	rows, err := c.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("not CSV: %w", err)
	}
	return rows, nil
}

// decodeUTF16 makes UTF-8 of UTF-16 with a byte-order mark and leaves the rest
// alone.
func decodeUTF16(data []byte) []byte {
	if len(data) < 2 || !(data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		return data
	}
	low, high := 0, 1
	if data[0] == 0xfe {
		low, high = 1, 0
	}
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, uint16(data[low])|uint16(data[high])<<8)
	}
	return []byte(string(utf16.Decode(units)))
}

// findColumns gives the places of the sample and of each question.
func findColumns(head []string, asked []Question) ([]int, error) {
	names := []string{columnSample}
	for _, q := range asked {
		names = append(names, q.Name)
	}
	places := make([]int, len(names))
	for i, name := range names {
		places[i] = -1
		for at, text := range head {
			if fold(text) != fold(name) {
				continue
			}
			if places[i] >= 0 {
				return nil, fmt.Errorf("the column %q stands twice", name)
			}
			places[i] = at
		}
		if places[i] < 0 {
			return nil, fmt.Errorf("there is no column %q: was the first row changed?", name)
		}
	}
	return places, nil
}

func cell(row []string, at int) string {
	if at >= len(row) {
		return ""
	}
	return strings.TrimSpace(row[at])
}

func fold(text string) string { return strings.ToLower(strings.Join(strings.Fields(text), " ")) }

// parseAnswer reads a cell; a is the system whose reply is A.
func parseAnswer(text string, a int) (int, error) {
	folded := fold(strings.Trim(text, " \t\"'.`\u00a0"))
	folded = strings.TrimSpace(strings.TrimPrefix(folded, "reply"))
	switch folded {
	case "":
		if strings.TrimSpace(text) != "" {
			break
		}
		return metrics.Missing, nil
	case "a":
		return []int{Win, Loss}[a], nil
	case "b":
		return []int{Loss, Win}[a], nil
	case "tie", "=", "equal", "draw", "same":
		return Tie, nil
	}
	return 0, fmt.Errorf("%q is no answer: write A, B or tie, or leave it empty", text)
}
