package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// absent is how a value that is not there is drawn.
const absent = "–"

// table is a table in no markup yet.
type table struct {
	Caption string
	// Paper says what the paper's figures in the cells are, PaperNotes what else
	// there is to say of them.
	Paper      string
	PaperNotes []string
	Folded     bool    // shown when asked for: a figure shows the same, or few look
	Wide       bool    // its first three columns are names, which stay in sight
	Loose      bool    // its numbers may be broken where there is no room
	Groups     []group // above the heads; may be empty
	Heads      []head
	Rows       [][]cell
	Notes      []string
	Sources    []Stage // whose artifacts the numbers come from
}

// caption is the whole of it, where the paper's figures are shown.
func (t table) caption() string {
	if t.Paper == "" || !t.hasPaper() {
		return t.Caption
	}
	if strings.HasSuffix(t.Caption, ".") {
		return t.Caption + " " + strings.ToUpper(t.Paper[:1]) + t.Paper[1:] + "."
	}
	return t.Caption + "; " + t.Paper
}

// withoutPaper is the table with its own figures alone.
func (t table) withoutPaper() table {
	rows := make([][]cell, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = slices.Clone(row)
		for k := range row {
			rows[i][k].Paper, rows[i][k].Delta = "", ""
		}
	}
	t.Rows, t.PaperNotes = rows, nil
	return t
}

func (t table) hasPaper() bool {
	for _, row := range t.Rows {
		for _, c := range row {
			if c.Paper != "" {
				return true
			}
		}
	}
	return false
}

type group struct {
	Text string
	Span int
}

type head struct {
	Text   string
	Number bool
}

// cell is one cell. Best and Second mark ranks; Paper is the paper's figure
// for the same place, Delta the difference to it. Rows is the number of rows it spans, and Covered says
// that one above spans this place.
type cell struct {
	Text    string
	Paper   string
	Delta   string // the value minus the paper's
	Number  bool
	Code    bool
	Best    bool
	Second  bool
	Rows    int
	Covered bool
	ID      string // anchor; empty: none
}

func text(s string) cell   { return cell{Text: s} }
func number(s string) cell { return cell{Text: s, Number: true} }
func count(n int) cell     { return number(strconv.Itoa(n)) }
func code(s string) cell {
	if s == "" {
		return cell{Text: absent}
	}
	return cell{Text: s, Code: true}
}

// fixed formats a value with the digits, a dash for an absent one.
func fixed(v *float64, digits int) string {
	if v == nil {
		return absent
	}
	s := strconv.FormatFloat(*v, 'f', digits, 64)
	if f, err := strconv.ParseFloat(s, 64); err == nil && f == 0 {
		return strconv.FormatFloat(0, 'f', digits, 64) // no "-0.00"
	}
	return s
}

func decimal(v *float64, digits int) cell { return number(fixed(v, digits)) }

// beside is a decimal cell with the paper's figure and the difference.
func beside(v, paper *float64, digits int) cell {
	c := decimal(v, digits)
	if paper != nil {
		c.Paper = fixed(paper, digits)
		c.Delta = delta(v, paper, digits)
	}
	return c
}

// delta is a value minus the paper's, with its sign; "" where one is absent.
func delta(v, paper *float64, digits int) string {
	if v == nil || paper == nil {
		return ""
	}
	d := fixed(Value(*v-*paper), digits)
	if *v > *paper && strings.ContainsAny(d, "123456789") {
		d = "+" + d
	}
	return strings.Replace(d, "-", "−", 1)
}

func percent(part, whole int) cell {
	if whole == 0 {
		return number(absent)
	}
	return number(strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %")
}

// span merges equal neighbours of a column downwards, within the merged rows
// of the column before it.
func span(rows [][]cell, col int) {
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n][col].Text == rows[i][col].Text &&
			(col == 0 || rows[i+n][col-1].Covered) {
			rows[i+n][col].Covered = true
			n++
		}
		rows[i][col].Rows = n
		i += n
	}
}

// rank marks the best and second best of each column among rows, comparing
// what is shown (two decimals), so that equal figures share a mark. values
// are by row, then by column. A column whose figures are all equal is not
// marked.
func rank(rows [][]cell, first int, values [][]*float64) {
	for c, col := range columns() {
		best, second := math.Inf(1), math.Inf(1)
		key := func(v *float64) float64 {
			k := math.Round(*v * 100)
			if !col.smaller {
				k = -k
			}
			return k
		}
		for _, v := range values {
			if v[c] == nil {
				continue
			}
			switch k := key(v[c]); {
			case k < best:
				best, second = k, best
			case k > best && k < second:
				second = k
			}
		}
		if math.IsInf(second, 1) {
			continue
		}
		for i, v := range values {
			if v[c] != nil {
				cell := &rows[i][first+c]
				cell.Best, cell.Second = key(v[c]) == best, key(v[c]) == second
			}
		}
	}
}

// methodName is Table 3's name of a method.
func methodName(m experiments.Method, pairs esc.PairSet) string {
	name := string(m)
	switch m {
	case experiments.MethodBase:
		name = "Base"
	case experiments.MethodDirectRefine:
		name = "+Direct-Refine"
	case experiments.MethodSelfRefine:
		name = "+Self-Refine"
	case experiments.MethodEmotionCoT:
		name = "+Emotion CoT"
	case experiments.MethodSFT:
		name = "SFT"
	case experiments.MethodDPO:
		name = "DPO"
	case experiments.MethodGold:
		name = "Gold replies"
	case experiments.MethodShuffled:
		name = "Gold replies, shuffled"
	case experiments.MethodCanned:
		name = "A canned reply"
	case experiments.MethodTFIDF:
		name = "TF-IDF planner"
	}
	if pairs != "" && pairs != esc.PairsAll {
		name = fmt.Sprintf("%s (%s)", name, pairs)
	}
	return name
}

func paradigmName(p experiments.Paradigm) string {
	switch p {
	case experiments.Vanilla:
		return "Vanilla"
	case experiments.Decoupled:
		return "Decoupled"
	case experiments.Gold:
		return "Given the gold strategy"
	case experiments.Anchor:
		return "No system"
	}
	return string(p)
}
