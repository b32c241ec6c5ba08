package judge

import (
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
)

// Usage counts in how many dialogues the supporters of a corpus use a wording:
// word bigrams for fluency; runs of four words, and whole answers of fewer, as
// the skeletons of stock answers. It is read-only once fitted.
type Usage struct {
	dialogues int
	bigrams   map[string]int
	skeletons map[string]int
}

const skeletonWords = 4

// FitUsage counts over dialogues, which should be the train split.
func FitUsage(dialogues []esc.Dialogue) *Usage {
	u := &Usage{dialogues: len(dialogues), bigrams: map[string]int{}, skeletons: map[string]int{}}
	for _, d := range dialogues {
		bigrams, skeletons := map[string]bool{}, map[string]bool{}
		for _, utterance := range d.Utterances {
			if utterance.Speaker != esc.Supporter {
				continue
			}
			list := words(utterance.Text)
			for _, g := range grams(list, 2) {
				bigrams[g] = true
			}
			for _, g := range skeletonsOf(list) {
				skeletons[g] = true
			}
		}
		for g := range bigrams {
			u.bigrams[g]++
		}
		for g := range skeletons {
			u.skeletons[g]++
		}
	}
	return u
}

func grams(list []string, n int) []string {
	var all []string
	for i := 0; i+n <= len(list); i++ {
		all = append(all, strings.Join(list[i:i+n], " "))
	}
	return all
}

// skeletonsOf returns the runs of four words, or the whole of a shorter text.
func skeletonsOf(list []string) []string {
	if len(list) < skeletonWords {
		return []string{"^ " + strings.Join(list, " ") + " $"}
	}
	return grams(list, skeletonWords)
}

// usageOf is how usual a response's wording is.
type usageOf struct {
	fitted bool
	common bool    // most of its skeletons recur
	where  string  // for the reason
	known  float64 // share of its bigrams that a corpus' supporter has used
}

// of looks a response up. A skeleton recurs when at least 1 % of the dialogues
// (and at least 5) have it.
func (u *Usage) of(list []string) usageOf {
	if u == nil || u.dialogues == 0 || len(list) == 0 {
		return usageOf{known: 1}
	}
	bound := max(5, (u.dialogues+99)/100)
	recurring, most := 0, 0
	skeletons := skeletonsOf(list)
	for _, g := range skeletons {
		count := u.skeletons[g]
		most = max(most, count)
		if count >= bound {
			recurring++
		}
	}
	result := usageOf{fitted: true, known: 1,
		common: 5*recurring >= 3*len(skeletons),
		where:  fmt.Sprintf("up to %d of %d dialogues", most, u.dialogues)}
	if bigrams := grams(list, 2); len(bigrams) > 0 {
		known := 0
		for _, g := range bigrams {
			if u.bigrams[g] > 0 {
				known++
			}
		}
		result.known = float64(known) / float64(len(bigrams))
	}
	return result
}
