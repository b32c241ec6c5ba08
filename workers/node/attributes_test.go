package node

import (
	"maps"
	"testing"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workflows"
)

// The settings register what the workflows set.
func TestSettingsHaveTheWorkflowsAttributes(t *testing.T) {
	if got, want := settings.Default().SearchAttributes, workflows.AttributeTypes(); !maps.Equal(got, want) {
		t.Errorf("settings %v, workflows %v", got, want)
	}
}
