package experiments

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// StopRule is how hopeless cells are told.
type StopRule string

const (
	StopNever   StopRule = "never"
	StopMedian  StopRule = "median"  // worse than the median of the others at the same epoch
	StopHalving StopRule = "halving" // not among the best 1/factor at a rung
)

// StopRules lists the rules.
func StopRules() []StopRule { return []StopRule{StopNever, StopMedian, StopHalving} }

// StopMetric is a figure of a training stage by which cells are compared.
type StopMetric string

const (
	MetricValidationLoss StopMetric = "validation_loss" // of base and sft, after each epoch: less is better
	MetricAccuracy       StopMetric = "accuracy"        // of dpo: share of pairs whose chosen side has the higher reward, over a quarter of an epoch
)

// StopMetrics lists the metrics.
func StopMetrics() []StopMetric { return []StopMetric{MetricValidationLoss, MetricAccuracy} }

// EarlyStopping gives up cells that a training stage shows to be hopeless.
type EarlyStopping struct {
	Rule StopRule `yaml:"rule" json:"rule"`
	// Stage is the training stage that is watched: "sft/rg", "dpo/sp", "base".
	Stage  string     `yaml:"stage" json:"stage"`
	Metric StopMetric `yaml:"metric" json:"metric"`
	// Grace is how many epochs a cell trains before it may be stopped.
	Grace float64 `yaml:"grace" json:"grace"`
	// MinCells is how many other cells have to be as far.
	MinCells int `yaml:"min_cells" json:"min_cells"`
	// Factor of halving: rungs lie at grace, grace·factor, grace·factor² … epochs.
	Factor int `yaml:"factor" json:"factor"`
}

func defaultEarlyStopping() EarlyStopping {
	return EarlyStopping{Rule: StopNever, Metric: MetricValidationLoss, Grace: 1, MinCells: 4, Factor: 2}
}

// On says whether cells are stopped at all.
func (e EarlyStopping) On() bool { return e.Rule != StopNever && e.Rule != "" }

func (v *validator) earlyStopping(s Sweep) {
	e := s.EarlyStopping
	if !oneOf(v, "early_stopping.rule", e.Rule, StopRules()) || !e.On() {
		return
	}
	if !oneOf(v, "early_stopping.metric", e.Metric, StopMetrics()) {
		return
	}
	kind, _, _ := strings.Cut(e.Stage, "/")
	switch {
	case e.Metric == MetricValidationLoss && kind != string(KindBase) && kind != string(KindSFT):
		v.fail("early_stopping.stage", "is %q; validation_loss is measured in base and sft/ROLE", e.Stage)
	case e.Metric == MetricAccuracy && kind != string(KindDPO):
		v.fail("early_stopping.stage", "is %q; accuracy is measured in dpo/vm/all, dpo/sp and dpo/rg", e.Stage)
	}
	v.positive("early_stopping.grace", e.Grace, 1000)
	v.atLeast("early_stopping.min_cells", e.MinCells, 1)
	if e.Rule == StopHalving {
		v.between("early_stopping.factor", e.Factor, 2, 100)
	}
}

// CurvePoint is a metric's value at a place in the training.
type CurvePoint struct {
	Epoch float64 `json:"epoch"`
	Value float64 `json:"value"`
}

// HopelessCell is a cell to give up, and why.
type HopelessCell struct {
	Cell   int    `json:"cell"`
	Reason string `json:"reason"`
}

// Hopeless compares the cells' curves, by cell, and names those of the running
// cells that are to be stopped, in ascending order. Cells that have ended count
// as others do. A pure function.
func (e EarlyStopping) Hopeless(curves map[int][]CurvePoint, running []int) []HopelessCell {
	if !e.On() {
		return nil
	}
	var out []HopelessCell
	for _, cell := range slices.Sorted(slices.Values(running)) {
		if reason := e.hopeless(curves, cell); reason != "" {
			out = append(out, HopelessCell{Cell: cell, Reason: reason})
		}
	}
	return out
}

func (e EarlyStopping) hopeless(curves map[int][]CurvePoint, cell int) string {
	for _, p := range curves[cell] {
		if p.Epoch < e.Grace-1e-9 || e.Rule == StopHalving && !e.rung(p.Epoch) {
			continue
		}
		var others []float64
		for other, curve := range curves {
			if other == cell {
				continue
			}
			for _, q := range curve {
				if math.Abs(q.Epoch-p.Epoch) < 1e-9 {
					others = append(others, q.Value)
				}
			}
		}
		if len(others) < e.MinCells {
			continue
		}
		slices.SortFunc(others, e.compare)
		switch e.Rule {
		case StopMedian:
			if m := middle(others); e.compare(p.Value, m) > 0 {
				return fmt.Sprintf("%s of %s was %.4g at epoch %.4g, the median of %d other cells %.4g", e.Metric, e.Stage, p.Value, p.Epoch, len(others), m)
			}
		case StopHalving:
			keep := (len(others) + 1 + e.Factor - 1) / e.Factor
			better := 0
			for _, o := range others {
				if e.compare(o, p.Value) < 0 {
					better++
				}
			}
			if better >= keep {
				return fmt.Sprintf("%s of %s was %.4g at epoch %.4g: %d of %d other cells were better, the best %d of all go on", e.Metric, e.Stage, p.Value, p.Epoch, better, len(others), keep)
			}
		}
	}
	return ""
}

// rung says whether halving decides at an epoch.
func (e EarlyStopping) rung(epoch float64) bool {
	for r := e.Grace; r < epoch+1e-9; r *= float64(e.Factor) {
		if math.Abs(r-epoch) < 1e-9 {
			return true
		}
	}
	return false
}

// compare orders values, the better first; NaN is worst.
func (e EarlyStopping) compare(a, b float64) int {
	switch an, bn := math.IsNaN(a), math.IsNaN(b); {
	case an && bn:
		return 0
	case an:
		return 1
	case bn:
		return -1
	}
	if e.Metric == MetricAccuracy {
		a, b = b, a
	}
	return cmp.Compare(a, b)
}

// middle is the median of sorted values.
func middle(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
