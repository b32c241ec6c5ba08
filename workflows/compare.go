package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
)

// CompareName is the name under which the comparison's workflow is registered.
const CompareName = "Compare"

// CompareInput is a comparison of runs, ready to be shown.
type CompareInput struct {
	Runs  []string `json:"runs"`            // their workflow IDs
	Sweep string   `json:"sweep,omitempty"` // whose cells they are
	// Table is Markdown, whose text is escaped.
	Table string `json:"table"`
	// Systems are those that it shows.
	Systems []experiments.System `json:"systems"`
	Facts   Facts                `json:"facts"`
}

// Compare gives a comparison a page in the web UI: its details are the table, and where
// that is too long for them, what a worker tells has all of it. Whoever starts it has made
// the table from artifacts, so it needs nothing.
func Compare(ctx workflow.Context, in CompareInput) error {
	if in.Details() != in.Table {
		workflow.SetCurrentDetails(ctx, in.Table)
	}
	return nil
}

// Summary says what is compared.
func (in CompareInput) Summary() string {
	if in.Sweep != "" {
		return fmt.Sprintf("the %d cells of sweep %s", len(in.Runs), inert.Page(in.Sweep))
	}
	names := make([]string, min(len(in.Runs), 4))
	for i := range names {
		names[i] = inert.Page(strings.TrimPrefix(in.Runs[i], "run/"))
	}
	out := strings.Join(names, ", ")
	if more := len(in.Runs) - len(names); more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

// SearchAttributes are the sweep, the paradigms and the methods that are
// compared.
func (in CompareInput) SearchAttributes() temporal.SearchAttributes {
	var updates []temporal.SearchAttributeUpdate
	if in.Sweep != "" {
		updates = append(updates, AttrSweep.ValueSet(keyword(in.Sweep)))
	}
	updates = append(updates, systemLists(in.Systems)...)
	return temporal.NewSearchAttributes(in.Facts.Usable(updates...)...)
}

// systemLists are the lists of the systems' paradigms and methods.
func systemLists(systems []experiments.System) []temporal.SearchAttributeUpdate {
	var paradigms, methods []string
	for _, s := range systems {
		if p := string(s.Paradigm); !slices.Contains(paradigms, p) {
			paradigms = append(paradigms, p)
		}
		if m := string(s.Method); !slices.Contains(methods, m) {
			methods = append(methods, m)
		}
	}
	if len(systems) == 0 {
		return nil
	}
	return []temporal.SearchAttributeUpdate{AttrParadigms.ValueSet(paradigms), AttrMethods.ValueSet(methods)}
}
