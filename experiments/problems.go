package experiments

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with an experiment.
type Problem struct {
	File    string // file, "preset demo" or "--set"; empty where the experiment was not read
	Line    int    // 1-based; 0: unknown
	Path    string // YAML path: "dpo.roles.sp.beta"; empty for the whole file
	Message string
}

func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is the error of reading and validating: everything that was found
// wrong, one line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err is nil without problems; otherwise they come in the order of the file.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return ps
}

// problemsOf turns an error into problems.
func problemsOf(err error) Problems {
	var ps Problems
	if err == nil || errors.As(err, &ps) {
		return ps
	}
	return Problems{{Message: err.Error()}}
}

// didYouMean is `; did you mean "x"?` for the candidate nearest to a misspelt
// word, or nothing where none is near.
func didYouMean(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nearest is the candidate with the fewest edits to word, within a third of
// its length (at least two edits); "" where there is none. The first of equals
// wins.
func nearest(word string, candidates []string) string {
	best, bestEdits := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		// Names like lr or vm are all within two edits of each other.
		if d := edits(strings.ToLower(word), strings.ToLower(c)); d < bestEdits && d < len(c) {
			best, bestEdits = c, d
		}
	}
	return best
}

// edits is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of neighbours.
func edits(a, b string) int {
	s, t := []rune(a), []rune(b)
	if len(s) > 64 || len(t) > 64 { // no key is that long
		return len(s) + len(t)
	}
	d := make([][]int, len(s)+1)
	for i := range d {
		d[i] = make([]int, len(t)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(s); i++ {
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(s)][len(t)]
}
