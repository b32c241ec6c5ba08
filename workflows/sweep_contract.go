package workflows

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/esclab/esclab/experiments"
)

// SweepName is the name under which the sweep's workflow is registered.
const SweepName = "Sweep"

// SweepActivities is what a worker does for sweeps. Cells pass by their place
// in the sweep's plan, which lies in the store.
type SweepActivities interface {
	// SurveyCells says which cells have every artifact in the store.
	SurveyCells(ctx context.Context, in CellsInput) (SurveyResult, error)
	// PlanCell lays out a cell's run.
	PlanCell(ctx context.Context, in CellInput) (CellPlan, error)
	// AwaitCell follows a cell's run that an earlier execution of the sweep
	// has started, and fails as it does.
	AwaitCell(ctx context.Context, in RunningCell) error
	// FindHopeless names the running cells to be given up.
	FindHopeless(ctx context.Context, in HopelessInput) ([]experiments.HopelessCell, error)
	// TabulateSweep writes the sweep's table into the store.
	TabulateSweep(ctx context.Context, in TableInput) (SweepTable, error)
}

// PlanRef names a sweep's plan in the store: a file of the sweep's run.
type PlanRef struct {
	Sweep  string `json:"sweep"` // workflow ID
	File   string `json:"file"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Cells  int    `json:"cells"` // that it has
}

// CellsInput names consecutive cells.
type CellsInput struct {
	Plan  PlanRef `json:"plan"`
	First int     `json:"first"`
	Count int     `json:"count"`
}

// SurveyResult has one mark a cell: CellDone or CellWaiting.
type SurveyResult struct {
	Marks CellMarks `json:"marks"`
}

// CellInput names one cell, and with what its run is started.
type CellInput struct {
	Plan             PlanRef `json:"plan"`
	Cell             int     `json:"cell"`
	Queues           Queues  `json:"queues"`
	HeartbeatSeconds int     `json:"heartbeat_seconds"`
	// Facts has what all cells have in common.
	Facts  Facts  `json:"facts"`
	Origin Origin `json:"origin,omitzero"`
}

// CellPlan is a cell ready to run.
type CellPlan struct {
	Name       string   `json:"name"`
	WorkflowID string   `json:"workflow_id"`
	Run        RunInput `json:"run"`
}

// RunningCell is a cell whose run is under way.
type RunningCell struct {
	Cell       int    `json:"cell"`
	Name       string `json:"name"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

// CellEnd is a cell that has ended without its report, and why.
type CellEnd struct {
	Cell   int      `json:"cell"`
	Name   string   `json:"name"`
	Mark   CellMark `json:"mark"`
	Reason string   `json:"reason"`
}

// HopelessInput names the cells to compare and those that may be given up.
type HopelessInput struct {
	Plan    PlanRef   `json:"plan"`
	Marks   CellMarks `json:"marks"`
	Running []int     `json:"running"`
}

// TableInput is what a sweep's table needs besides the store.
type TableInput struct {
	Plan  PlanRef   `json:"plan"`
	Marks CellMarks `json:"marks"`
	Ends  []CellEnd `json:"ends"`
}

// SweepTable says where the table lies, and shows the beginning of it.
type SweepTable struct {
	Files    []string `json:"files"` // of the sweep's run
	Markdown string   `json:"markdown"`
}

// CellMark is where a cell stands, in one letter.
type CellMark byte

// The marks of cells.
const (
	CellUnknown   CellMark = '?' // not looked up yet
	CellWaiting   CellMark = 'w'
	CellRunning   CellMark = 'r'
	CellDone      CellMark = 'd'
	CellReused    CellMark = 'u' // everything was in the store
	CellFailed    CellMark = 'f'
	CellCancelled CellMark = 'c'
	CellStopped   CellMark = 's' // given up by early stopping
)

// CellMarksInOrder lists the marks as counts are shown.
func CellMarksInOrder() []CellMark {
	return []CellMark{CellDone, CellReused, CellRunning, CellWaiting, CellUnknown, CellFailed, CellCancelled, CellStopped}
}

func (m CellMark) String() string {
	switch m {
	case CellUnknown, CellWaiting:
		return "waiting"
	case CellRunning:
		return "running"
	case CellDone:
		return "done"
	case CellReused:
		return "reused"
	case CellFailed:
		return "failed"
	case CellCancelled:
		return "cancelled"
	case CellStopped:
		return "stopped early"
	}
	return fmt.Sprintf("mark %q", byte(m))
}

// MarshalText writes the letter.
func (m CellMark) MarshalText() ([]byte, error) { return []byte{byte(m)}, nil }

// UnmarshalText reads the letter.
func (m *CellMark) UnmarshalText(text []byte) error {
	if len(text) != 1 {
		return fmt.Errorf("%q is no mark of a cell", text)
	}
	*m = CellMark(text[0])
	return nil
}

// CellMarks has one mark for each cell of a sweep: thousands of cells in a few
// thousand bytes.
type CellMarks string

// At gives a cell's mark.
func (m CellMarks) At(cell int) CellMark { return CellMark(m[cell]) }

// Count counts the cells with a mark.
func (m CellMarks) Count(mark CellMark) int { return strings.Count(string(m), string(rune(mark))) }

// Summary says how many cells stand where, in words.
func (m CellMarks) Summary() string {
	var parts []string
	for _, mark := range CellMarksInOrder() {
		n := m.Count(mark)
		if mark == CellWaiting {
			n += m.Count(CellUnknown)
		}
		if n > 0 && mark != CellUnknown {
			parts = append(parts, fmt.Sprintf("%d %s", n, mark))
		}
	}
	return strings.Join(parts, ", ")
}

// SweepInput is one execution of a sweep.
type SweepInput struct {
	Name             string  `json:"name"`
	Plan             PlanRef `json:"plan"`
	Parallel         int     `json:"parallel"` // cells at the same time
	Priority         int     `json:"priority"` // of the cells' runs, 1 to 5
	Queues           Queues  `json:"queues"`
	HeartbeatSeconds int     `json:"heartbeat_seconds"`
	// Facts of the sweep; each cell adds its own.
	Facts Facts `json:"facts"`
	// Origin says who has started it; sweeps of earlier versions have none.
	Origin Origin `json:"origin,omitzero"`
	// StopEverySeconds is how often hopeless cells are looked for; 0: never.
	StopEverySeconds int `json:"stop_every_seconds,omitempty"`
	// HistoryEvents ends an execution; 0: 3,000.
	HistoryEvents int `json:"history_events,omitempty"`
	// Carry is what an earlier execution has done; nil at the beginning.
	Carry *SweepCarry `json:"carry,omitempty"`
}

// SweepCarry passes from one execution of a sweep to the next.
type SweepCarry struct {
	Marks      CellMarks     `json:"marks"`
	Running    []RunningCell `json:"running,omitempty"`
	Ends       []CellEnd     `json:"ends,omitempty"`
	Paused     bool          `json:"paused,omitempty"`
	Executions int           `json:"executions"`
	Started    time.Time     `json:"started,omitzero"` // when the first execution was
	Best       []CellScore   `json:"best,omitempty"`
	Pace       SweepPace     `json:"pace,omitzero"`
}

// CellScore is what a cell's headline system has come to.
type CellScore struct {
	Cell       int                `json:"cell"`
	Name       string             `json:"name"`
	WorkflowID string             `json:"workflow_id"`
	System     string             `json:"system"`
	Metrics    map[string]float64 `json:"metrics"`
}

// SweepPace is how long cells take: how many have run to their end, and the time that
// the sweep had for them.
type SweepPace struct {
	Cells   int     `json:"cells"`
	Seconds float64 `json:"seconds"`
}

// SearchAttributes are those that a sweep starts with, whoever starts it.
func (in SweepInput) SearchAttributes() temporal.SearchAttributes {
	f := in.Facts
	var updates []temporal.SearchAttributeUpdate
	for key, value := range map[temporal.SearchAttributeKeyKeyword]string{
		AttrExperiment: f.Experiment, AttrBackbone: f.Backbone, AttrSweep: in.Name, AttrRevision: f.Revision,
	} {
		if value != "" {
			updates = append(updates, key.ValueSet(keyword(value)))
		}
	}
	return temporal.NewSearchAttributes(f.Usable(updates...)...)
}

// SweepState is the answer to the "state" query of a sweep.
type SweepState struct {
	Name       string        `json:"name"`
	Plan       PlanRef       `json:"plan"`
	Parallel   int           `json:"parallel"`
	Priority   int           `json:"priority"`
	Paused     bool          `json:"paused"`
	Executions int           `json:"executions"` // continued as new so often, plus one
	Marks      CellMarks     `json:"marks"`
	Running    []RunningCell `json:"running"`
	Ends       []CellEnd     `json:"ends"`
	Best       []CellScore   `json:"best,omitempty"` // cells that ran, the least preference bias first
	// ETASeconds is the estimated time left; 0 where nothing tells.
	ETASeconds float64 `json:"eta_seconds,omitempty"`
}

// SweepResult is what a sweep ends with.
type SweepResult struct {
	Plan  PlanRef    `json:"plan"`
	Marks CellMarks  `json:"marks"`
	Ends  []CellEnd  `json:"ends,omitempty"`
	Table SweepTable `json:"table"`
}

// Updates that change a running sweep. Each is validated before it enters the
// history and answers with the sweep's state afterwards.
const (
	UpdatePause       = "pause"
	UpdateResume      = "resume"
	UpdateParallel    = "parallel"
	UpdateCancelCell  = "cancel-cell"
	UpdateRetryFailed = "retry-failed"
	UpdateAddCells    = "add-cells"
)

// PauseInput says how a sweep is paused.
type PauseInput struct {
	// Now also stops the cells that run; they go on at their checkpoints.
	Now bool `json:"now"`
}

// CancelCellInput names a cell.
type CancelCellInput struct {
	Cell int    `json:"cell"`
	Name string `json:"name"`
}
