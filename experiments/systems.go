package experiments

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
)

// System is a row of Table 3 or 4: what replies to the test turns.
type System struct {
	Paradigm Paradigm `json:"paradigm"`
	Method   Method   `json:"method"`
	// PairSet is the one that the vanilla model's dpo was trained on; "" elsewhere.
	PairSet esc.PairSet `json:"set,omitempty"`
}

// Name is how stages, reports and commands call the system: "decoupled/dpo",
// "vanilla/dpo" for the pair set all, "vanilla/dpo/nsnr" for another.
func (s System) Name() string {
	name := string(s.Paradigm) + "/" + string(s.Method)
	if s.PairSet != "" && s.PairSet != esc.PairsAll {
		name += "/" + string(s.PairSet)
	}
	return name
}

// ParseSystem reads what Name wrote.
func ParseSystem(name string) (System, error) {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return System{}, fmt.Errorf("%q is no system; one is named like decoupled/dpo", name)
	}
	s := System{Paradigm: Paradigm(parts[0]), Method: Method(parts[1])}
	if !slices.Contains(Paradigms(), s.Paradigm) {
		return System{}, fmt.Errorf("%q is no system: its paradigm is one of %s", name, words(Paradigms()))
	}
	if !slices.Contains(s.Paradigm.Methods(), s.Method) {
		return System{}, fmt.Errorf("%q is no system: the methods of %s are %s", name, s.Paradigm, words(s.Paradigm.Methods()))
	}
	paired := s.Paradigm == Vanilla && s.Method == MethodDPO
	if paired {
		s.PairSet = esc.PairsAll
	}
	if len(parts) == 3 {
		s.PairSet = esc.PairSet(parts[2])
		if !paired || !slices.Contains(esc.PairSets(), s.PairSet) || s.PairSet == esc.PairsAll {
			return System{}, fmt.Errorf("%q is no system: vanilla/dpo alone has pair sets, %s", name, words(esc.PairSets()[1:]))
		}
	}
	return s, nil
}

// Systems lists the systems that these paradigms, methods and pair sets span,
// in the order of the tables.
func Systems(paradigms []Paradigm, methods []Method, sets []esc.PairSet) []System {
	var out []System
	for _, paradigm := range inOrder(Paradigms(), paradigms) {
		for _, method := range inOrder(paradigm.Methods(), methods) {
			if paradigm != Vanilla || method != MethodDPO {
				out = append(out, System{Paradigm: paradigm, Method: method})
				continue
			}
			for _, set := range inOrder(esc.PairSets(), sets) {
				out = append(out, System{paradigm, method, set})
			}
		}
	}
	return out
}

// Systems lists the systems that the report shows.
func (p ReportParams) Systems() []System { return Systems(p.Paradigms, p.Methods, p.PairSets) }

// SystemOf says which system a stage belongs to: the one that it generates
// for, scores or judges, or the one that it trains a role for. It is false for
// what all systems share.
func SystemOf(s Stage) (System, bool) {
	// An experiment with several seeds has a stage for each: "sft/sp@2".
	kind, rest, ok := strings.Cut(WithoutSeed(s.Name), "/")
	if !ok {
		return System{}, false
	}
	switch s.Kind {
	case KindGenerate, KindStrategies, KindScore, KindJudge, KindBias:
		sys, err := ParseSystem(rest)
		return sys, err == nil
	case KindSFT, KindMine, KindReference, KindDPO:
		role, set, _ := strings.Cut(rest, "/")
		sys := System{Paradigm: Decoupled, Method: MethodDPO}
		if kind == string(KindSFT) {
			sys.Method = MethodSFT
		}
		if esc.Role(role) == esc.VM {
			sys.Paradigm = Vanilla
			if sys.Method == MethodDPO {
				sys.PairSet = cmp.Or(esc.PairSet(set), esc.PairsAll)
			}
		}
		return sys, true
	}
	return System{}, false
}

// Headline is the system whose numbers stand for a run: the last of Table 3's
// order that learned from all its pairs, so decoupled/dpo where the run has it.
func Headline(stages []Stage) (System, bool) {
	var best System
	found := false
	for _, s := range stages {
		if s.Kind != KindBias {
			continue
		}
		if sys, ok := SystemOf(s); ok && (!found || sys.whole() || !best.whole()) {
			best, found = sys, true
		}
	}
	return best, found
}

// whole says that the system learned from all its pairs.
func (s System) whole() bool { return s.PairSet == "" || s.PairSet == esc.PairsAll }

// words joins a list for people.
func words[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
