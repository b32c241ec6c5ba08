package report

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/esclab/esclab/experiments"
)

// Columns are Table 3's columns, in the order of experiments.Table3: percent but
// for the judge's scores (0-5) and the preference bias. nil is an absent value
// and is drawn as a dash, as are NaN and the infinities. In JSON they are one
// object, by the columns' names.
type Columns [experiments.NumColumns]*float64

// ColumnsOf are columns by their names; names that are none are left out, and so
// is what is not finite.
func ColumnsOf(values map[string]float64) Columns {
	var c Columns
	for i, column := range experiments.Table3() {
		if v, ok := values[column.Name]; ok {
			c[i] = finite(&v)
		}
	}
	return c
}

// Value is a present value of a column.
func Value(v float64) *float64 { return &v }

// Of is the value of the column of a name; nil where it is absent.
func (c Columns) Of(name string) *float64 {
	for i, column := range experiments.Table3() {
		if column.Name == name {
			return c[i]
		}
	}
	return nil
}

// Cells gives the values as text; – where one is absent.
func (c Columns) Cells() []string {
	var out []string
	for _, v := range c {
		text := "–"
		if v := finite(v); v != nil {
			text = fmt.Sprintf("%.2f", *v)
		}
		out = append(out, text)
	}
	return out
}

// MarshalJSON writes every column, an absent one as null.
func (c Columns) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, column := range experiments.Table3() {
		value, err := json.Marshal(c[i])
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", column.Name, err)
		}
		fmt.Fprintf(&b, ",%q:%s", column.Name, value)
	}
	return append([]byte("{"), append(b.Bytes()[1:], '}')...), nil
}

// UnmarshalJSON reads what MarshalJSON wrote; a name that is no column's is an
// error.
func (c *Columns) UnmarshalJSON(data []byte) error {
	values := map[string]*float64{}
	if err := json.Unmarshal(data, &values); err != nil {
		return err
	}
	for i, column := range experiments.Table3() {
		c[i] = values[column.Name]
		delete(values, column.Name)
	}
	for name := range values {
		return fmt.Errorf("unknown column %q", name)
	}
	return nil
}

// column describes one of Table 3's columns as the report's tables show it.
type column struct {
	name    string
	head    string
	group   string
	smaller bool // the smaller the better
}

// Groups of columns.
const (
	automatic = "Automatic metrics ↑"
	judged    = "Judge's metrics ↑"
	strategy  = "Strategy metrics"
)

// columns returns Table 3's columns in order.
func columns() []column {
	groups := map[experiments.Kind]string{experiments.KindScore: automatic, experiments.KindJudge: judged, experiments.KindBias: strategy}
	var out []column
	for _, c := range experiments.Table3() {
		one := column{name: c.Name, head: c.Head, group: groups[c.Kind], smaller: c.Smaller}
		switch {
		case one.group != strategy: // the group says which way is better
		case c.Smaller:
			one.head += " ↓"
		default:
			one.head += " ↑"
		}
		out = append(out, one)
	}
	return out
}

// MeanColumns gives the mean of each column; one that is absent anywhere is
// absent.
func MeanColumns(all []Columns) Columns {
	var mean Columns
	for c := range mean {
		sum, present := 0.0, len(all) > 0
		for i := range all {
			v := all[i][c]
			if present = present && v != nil; present {
				sum += *v / float64(len(all))
			}
		}
		if present {
			mean[c] = Value(sum)
		}
	}
	return mean
}
