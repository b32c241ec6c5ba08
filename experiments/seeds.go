package experiments

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
)

// seedMark stands between a stage's name and the seed that it belongs to:
// "sft/sp@2".
const seedMark = "@"

// AllSeeds are the seeds that the experiment runs with: Seeds, or Seed alone.
func (e Experiment) AllSeeds() []uint64 {
	if len(e.Seeds) > 0 {
		return e.Seeds
	}
	return []uint64{e.Seed}
}

// AtSeed is the name of a seed's own stage in an experiment with several.
func AtSeed(name string, seed uint64) string { return fmt.Sprintf("%s%s%d", name, seedMark, seed) }

// WithoutSeed is a stage's name without the seed that it belongs to.
func WithoutSeed(name string) string {
	plain, _, _ := strings.Cut(name, seedMark)
	return plain
}

// mergeSeeds joins the plans of one experiment with several seeds. What is the
// same for all of them, such as the corpus and an imported base, stands in the
// plan once, under its own name; the others are told apart by AtSeed. A name is
// no part of a fingerprint and inputs keep the names by which their stage knows
// them, so every stage has the fingerprint that it has in the experiment with
// its seed alone, and the artifacts are shared. One seed's plan stays as it is.
func mergeSeeds(seeds []uint64, plans [][]Stage) []Stage {
	if len(plans) == 1 {
		return plans[0]
	}
	// The plans have the same stages in the same order: no name depends on a seed.
	shared := map[string]bool{}
	for i, s := range plans[0] {
		same := true
		for _, plan := range plans[1:] {
			same = same && bytes.Equal(plan[i].Params, s.Params)
		}
		for _, from := range s.Inputs {
			same = same && shared[from]
		}
		shared[s.Name] = same
	}
	var merged []Stage
	for k, plan := range plans {
		name := func(plain string) string {
			if shared[plain] {
				return plain
			}
			return AtSeed(plain, seeds[k])
		}
		for _, s := range plan {
			if k > 0 && shared[s.Name] {
				continue
			}
			s.Name = name(s.Name)
			s.Inputs = maps.Clone(s.Inputs)
			for input, from := range s.Inputs {
				s.Inputs[input] = name(from)
			}
			merged = append(merged, s)
		}
	}
	return merged
}
