package workflows

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// The search attributes by which workflows are found in the web UI and by
// esclab ui. Temporal's SQL visibility has columns for 10 of type Keyword and
// 3 of each other type in a namespace, which is why ROUGE-L is an Int to ask for
// and a Keyword to read. The same names and types are the settings' default for
// search_attributes.
//
// Paradigm and Method name the one system whose numbers a workflow carries: a
// stage's own, a run's headline system (see experiments.Headline). Paradigms and Methods
// list everything that a run has.
var (
	AttrExperiment = temporal.NewSearchAttributeKeyKeyword("Experiment")
	AttrBackbone   = temporal.NewSearchAttributeKeyKeyword("Backbone")
	AttrStage      = temporal.NewSearchAttributeKeyKeyword("Stage") // the stage's name: "dpo/sp", "bias/decoupled/dpo"
	AttrParadigm   = temporal.NewSearchAttributeKeyKeyword("Paradigm")
	AttrMethod     = temporal.NewSearchAttributeKeyKeyword("Method")
	AttrParadigms  = temporal.NewSearchAttributeKeyKeywordList("Paradigms")
	AttrMethods    = temporal.NewSearchAttributeKeyKeywordList("Methods")
	AttrSweep      = temporal.NewSearchAttributeKeyKeyword("Sweep")
	AttrCell       = temporal.NewSearchAttributeKeyKeyword("Cell")
	AttrSeed       = temporal.NewSearchAttributeKeyInt64("Seed")
	AttrRevision   = temporal.NewSearchAttributeKeyKeyword("Revision") // git revision of the program that started it
	AttrVerdict    = temporal.NewSearchAttributeKeyKeyword("Verdict")  // of a nightly comparison

	AttrBias       = temporal.NewSearchAttributeKeyFloat64("PreferenceBias")
	AttrWeightedF1 = temporal.NewSearchAttributeKeyFloat64("WeightedF1") // percent
	AttrMacroF1    = temporal.NewSearchAttributeKeyFloat64("MacroF1")    // percent
	AttrRougeL     = temporal.NewSearchAttributeKeyInt64("RougeLBasisPoints")
	AttrRougeLText = temporal.NewSearchAttributeKeyKeyword("RougeL") // percent, "15.02"
)

// AttributeTypes are all the attributes above, by name, with the names that
// the settings have for their types.
func AttributeTypes() map[string]string {
	return map[string]string{
		AttrExperiment.GetName(): "Keyword", AttrBackbone.GetName(): "Keyword", AttrStage.GetName(): "Keyword",
		AttrParadigm.GetName(): "Keyword", AttrMethod.GetName(): "Keyword",
		AttrSweep.GetName(): "Keyword", AttrCell.GetName(): "Keyword", AttrRevision.GetName(): "Keyword", AttrVerdict.GetName(): "Keyword",
		AttrParadigms.GetName(): "KeywordList", AttrMethods.GetName(): "KeywordList",
		AttrSeed.GetName(): "Int", AttrRougeL.GetName(): "Int", AttrRougeLText.GetName(): "Keyword",
		AttrBias.GetName(): "Double", AttrWeightedF1.GetName(): "Double", AttrMacroF1.GetName(): "Double",
	}
}

// Facts describe a run to those who look for it: they become search
// attributes and enter no fingerprint. Every one of them may be empty.
type Facts struct {
	Experiment string `json:"experiment,omitempty"`
	Backbone   string `json:"backbone,omitempty"`
	Sweep      string `json:"sweep,omitempty"`    // name of the sweep that the run is a cell of
	Cell       string `json:"cell,omitempty"`     // its point of the grid
	Seed       uint64 `json:"seed,omitempty"`     //
	Revision   string `json:"revision,omitempty"` // git revision of the program
	// Attributes names the search attributes that the namespace has, one of another
	// name there as Experiment=lab_Experiment. No other is set: a workflow that sets
	// one that is unknown to its namespace hangs.
	Attributes []string `json:"attributes,omitempty"`
	// FilesPath is the path, before a fingerprint, of the web UI where it has the files of
	// stages.
	FilesPath string `json:"files_path,omitempty"`
}

// UsableAttributes names those of AttributeTypes that a namespace has with the
// right type, each behind the prefix, sorted: the value for Facts.Attributes.
func UsableAttributes(have map[string]string, prefix string) []string {
	var names []string
	//workflowcheck:ignore
	for name, kind := range AttributeTypes() {
		switch {
		case have[prefix+name] != kind:
		case prefix == "":
			names = append(names, name)
		default:
			names = append(names, name+"="+prefix+name)
		}
	}
	slices.Sort(names)
	return names
}

// AttributeNamed is the name that a namespace has for a search attribute; false
// where it has none.
func (f Facts) AttributeNamed(name string) (string, bool) {
	for _, attribute := range f.Attributes {
		if own, there, renamed := strings.Cut(attribute, "="); own == name {
			if !renamed {
				there = own
			}
			return there, true
		}
	}
	return "", false
}

// Usable keeps the updates that the namespace has attributes for, under its names.
func (f Facts) Usable(updates ...temporal.SearchAttributeUpdate) []temporal.SearchAttributeUpdate {
	var kept []temporal.SearchAttributeUpdate
	for _, u := range updates {
		//workflowcheck:ignore
		for key, value := range temporal.NewSearchAttributes(u).GetUntypedValues() { // one
			name, ok := f.AttributeNamed(key.GetName())
			if !ok {
				continue
			}
			switch v := value.(type) {
			case string:
				u = temporal.NewSearchAttributeKeyKeyword(name).ValueSet(v)
			case []string:
				u = temporal.NewSearchAttributeKeyKeywordList(name).ValueSet(v)
			case int64:
				u = temporal.NewSearchAttributeKeyInt64(name).ValueSet(v)
			case float64:
				u = temporal.NewSearchAttributeKeyFloat64(name).ValueSet(v)
			}
			kept = append(kept, u)
		}
	}
	return kept
}

// updates are the attributes of the facts themselves.
func (f Facts) updates() []temporal.SearchAttributeUpdate {
	var all []temporal.SearchAttributeUpdate
	for _, one := range []struct {
		key   temporal.SearchAttributeKeyKeyword
		value string
	}{
		{AttrExperiment, f.Experiment}, {AttrBackbone, f.Backbone}, {AttrSweep, f.Sweep}, {AttrCell, f.Cell}, {AttrRevision, f.Revision},
	} {
		if one.value != "" {
			all = append(all, one.key.ValueSet(keyword(one.value)))
		}
	}
	return append(all, AttrSeed.ValueSet(int64(f.Seed)))
}

// keyword shortens a value to what a Keyword's column holds, 255 characters.
func keyword(s string) string {
	if r := []rune(s); len(r) > 255 {
		return string(r[:255])
	}
	return s
}

// SearchAttributes are those that a run starts with, whoever starts it.
func (in RunInput) SearchAttributes() temporal.SearchAttributes {
	updates := in.Facts.updates()
	var systems []experiments.System
	for _, s := range in.Stages {
		if sys, ok := experiments.SystemOf(s); ok && s.Kind == experiments.KindGenerate {
			systems = append(systems, sys)
		}
	}
	updates = append(updates, systemLists(systems)...)
	if sys, ok := experiments.Headline(in.Stages); ok {
		updates = append(updates, AttrParadigm.ValueSet(string(sys.Paradigm)), AttrMethod.ValueSet(string(sys.Method)))
	}
	return temporal.NewSearchAttributes(in.Facts.Usable(updates...)...)
}

// SearchAttributes are those that a stage's workflow starts with: its own
// paradigm and method, and the facts of the run that started it.
func (in StageInput) SearchAttributes() temporal.SearchAttributes {
	updates := append(in.Facts.updates(), AttrStage.ValueSet(keyword(in.Stage.Name)))
	if sys, ok := experiments.SystemOf(in.Stage); ok {
		updates = append(updates, AttrParadigm.ValueSet(string(sys.Paradigm)), AttrMethod.ValueSet(string(sys.Method)))
	}
	return temporal.NewSearchAttributes(in.Facts.Usable(updates...)...)
}

// measured are the search attributes of a stage's metrics, rounded to the two digits
// of a table: the web UI shows what is stored. What is not a number is left out: no
// search attribute holds it.
func measured(metrics map[string]float64) []temporal.SearchAttributeUpdate {
	var updates []temporal.SearchAttributeUpdate
	//workflowcheck:ignore
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		v := metrics[name]
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		v = math.Round(v*100) / 100
		switch name {
		case "preference_bias":
			updates = append(updates, AttrBias.ValueSet(v))
		case "weighted_f1":
			updates = append(updates, AttrWeightedF1.ValueSet(v))
		case "macro_f1":
			updates = append(updates, AttrMacroF1.ValueSet(v))
		case "rouge_l":
			updates = append(updates, AttrRougeL.ValueSet(int64(math.Round(v*100))), AttrRougeLText.ValueSet(fmt.Sprintf("%.2f", v)))
		}
	}
	return updates
}

// record puts the numbers of an evaluation's result into the search attributes
// of the stage's workflow; other stages have none.
func record(ctx workflow.Context, f Facts, kind experiments.Kind, r StageResult) error {
	if kind != experiments.KindScore && kind != experiments.KindBias {
		return nil
	}
	return upsert(ctx, f, r.Metrics)
}

func upsert(ctx workflow.Context, f Facts, metrics map[string]float64) error {
	updates := f.Usable(measured(metrics)...)
	if len(updates) == 0 {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, updates...)
}
