package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/esclab/esclab/workflows/lab"
)

// testBenchDAG measures a finished run: every stage that it computed is there,
// and no time is counted twice or lost.
func testBenchDAG(t *testing.T, ctx context.Context, data string) {
	var cost lab.Cost
	if err := json.Unmarshal([]byte(output(t, ctx, "", "bench", "dag", "micro", "--json", "--data", data)), &cost); err != nil {
		t.Fatal(err)
	}
	if len(cost.Stages) < 39 || cost.Wall <= 0 || cost.Kernel <= 0 || cost.Store <= 0 || cost.Idle <= 0 || cost.Idle >= cost.Wall {
		t.Errorf("%d stages, %+v", len(cost.Stages), cost)
	}
	var kernel float64
	names := map[string]bool{}
	for _, s := range cost.Stages {
		kernel += s.Kernel
		if names[s.Stage] || s.Stage == "" || s.Before < 0 || s.Dispatch < 0 || s.Call < 0 || s.After < 0 || s.Orchestration() > cost.Most {
			t.Errorf("%+v", s)
		}
		names[s.Stage] = true
	}
	if off := kernel - cost.Kernel; off > 1e-6 || off < -1e-6 {
		t.Errorf("the stages computed for %v s, the run for %v s", kernel, cost.Kernel)
	}
	if said := output(t, ctx, "", "bench", "dag", "micro", "--data", data); !strings.Contains(said, "of a minute") || !strings.Contains(said, "dpo/sp") {
		t.Errorf("it says\n%s", said)
	}
}
