// Package nightly tells whether a night's run of a scheduled experiment is as
// good and as fast as those of the nights before it. It is pure: records in, a
// verdict and its Markdown out.
package nightly

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// recordVersion is the version of a record's layout.
const recordVersion = 1

// Record is one night: what was run by which build, what it scored, how long
// its stages took, and how that compares with the nights before.
type Record struct {
	Version  int    `json:"version"`
	Schedule string `json:"schedule"`
	// Night names the record: its start, as 20261125T220000Z.
	Night    string `json:"night"`
	Workflow string `json:"workflow"`      // ID of the Nightly workflow
	Run      string `json:"run,omitempty"` // ID of the run; empty where none was started
	// Report is the fingerprint of the run's report stage.
	Report   string    `json:"report,omitempty"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`

	Experiment string `json:"experiment"`
	// Revision is the build of the worker that planned the night.
	Revision string `json:"revision"`
	// Newest is what the worker's command for the newest revision said; empty
	// where there is none.
	Newest string `json:"newest,omitempty"`
	// Setup is the SHA-256 of the stages' names, kinds and parameters: nights
	// are compared where it is the same. The code's versions are no part of it.
	Setup string `json:"setup"`
	Fresh string `json:"fresh"` // what was measured anew: all, none, or kinds

	// Machine is that of the worker that planned the night; records of earlier
	// versions have none.
	Machine Machine `json:"machine,omitzero"`

	// Effects are the paired differences of the run's headline.
	Effects []Effect `json:"effects,omitempty"`
	Systems []System `json:"systems"`
	Stages  []Stage  `json:"stages"`

	Judgement
	// Error is what the night failed of.
	Error string `json:"error,omitempty"`
}

// System is one row of the run's Table 3.
type System struct {
	Name    string   `json:"name"`
	Metrics []Metric `json:"metrics"`
}

// Metric is one column of a system with its 95 % bootstrap interval.
type Metric struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Smaller tells that smaller values are better.
	Smaller bool `json:"smaller,omitempty"`
}

// Stage is one stage of the run.
type Stage struct {
	Name        string  `json:"name"`
	Kind        string  `json:"kind"`
	Fingerprint string  `json:"fingerprint"`
	Digest      string  `json:"digest"` // of the artifact's manifest
	Engine      string  `json:"engine,omitempty"`
	Seconds     float64 `json:"seconds"`
	// Tokens that the kernel computed, where the stage counts them.
	Tokens float64 `json:"tokens,omitempty"`
	// Reused and resumed stages say nothing about speed.
	Reused  bool `json:"reused,omitempty"`
	Resumed bool `json:"resumed,omitempty"`
}

// measured tells whether the stage's seconds are those of all its work.
func (s Stage) measured() bool { return !s.Reused && !s.Resumed && s.Seconds > 0 }

// Encode writes a record as JSON.
func (r Record) Encode() ([]byte, error) {
	r.Version = recordVersion
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("record of night %s: %w", r.Night, err)
	}
	return b.Bytes(), nil
}

// Decode reads a record that Encode has written.
func Decode(data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("record of a night: %w", err)
	}
	if r.Version != recordVersion {
		return r, fmt.Errorf("record of night %s: format version %d, this program knows %d", r.Night, r.Version, recordVersion)
	}
	return r, nil
}
