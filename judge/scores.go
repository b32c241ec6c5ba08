package judge

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/esclab/esclab/esc"
)

// score rates the four criteria of the paper's Table 8 from 0 to 5. Fluency is a
// matter of form. The other three rest on the answer's merit, and signs of empathy and help count as far as the answer has it;
// faults are taken off.
func score(s signs, found []esc.PsyError) Scores {
	has := func(e esc.PsyError) bool { return slices.Contains(found, e) }
	if s.n == 0 {
		return Scores{}
	}
	fluency := fluencyOf(s)
	merit := s.merit.coherence * s.merit.substance

	professional := 2 + 2.5*merit
	professional += when(s.hostile != "", -2.5) + when(s.dismisses != "", -0.75) + when(s.presses != "", -0.5)
	professional += when(s.cheers != "" && s.acknowledges == "", -0.25) + when(s.n <= 3, -0.5)
	professional += when(has(esc.StrategyMismatch), -0.25) + when(has(esc.EmotionMisread), -0.25) + when(has(esc.EarlyEmotionShift), -0.25)
	professional += merit * when(s.directs != "" && s.presses == "" && s.response.has(hedged), 1)

	empathy := 1 + 2.5*merit
	empathy += merit * (when(s.acknowledges != "", 1.5) + when(len(s.feelings) > 0, 1) + when(s.response.has(secondPerson), 0.5))
	empathy += when(has(esc.LackOfEmpathy), -0.5) + when(has(esc.EarlyEmotionShift), -0.25)
	empathy += when(has(esc.TemplateResponse), -0.25) + when(has(esc.EmotionMisread), -0.5) + when(s.hostile != "", -2)

	helpful := 1 + 3*merit
	helpful += merit * (when(s.directs != "", 1) + when(s.question, 0.75) + when(s.asked && s.directs != "", 1))
	helpful += when(has(esc.TemplateResponse), -0.5) + when(s.repeated, -0.5) + when(s.hostile != "", -1.5)

	// What cannot be understood cannot help or comfort either.
	ceiling := fluency + 1
	return Scores{
		Fluency:         clamp(fluency, 5),
		Professionalism: clamp(professional, ceiling),
		Empathy:         clamp(empathy, ceiling),
		Helpfulness:     clamp(helpful, ceiling),
	}
}

// fluencyOf starts from a plain sentence and takes off for broken form: loops,
// word pairs that no supporter of the corpus used, gibberish, shouting, a text
// that breaks off.
func fluencyOf(s signs) float64 {
	text := strings.TrimSpace(s.request.Response)
	fluency := 3.75
	fluency += when(s.n >= 8, 0.25)
	fluency -= 3 * loops(s.response.words)
	if s.usage.fitted && s.n >= 2 {
		fluency -= 3 * max(0, 0.7-s.usage.known)
	}
	odd := 0
	for _, w := range s.response.words {
		if oddWord(w) {
			odd++
		}
	}
	fluency -= 3 * float64(odd) / float64(s.n)
	last, _ := utf8.DecodeLastRuneInString(text)
	fluency += when(!unicode.IsPunct(last) && !unicode.IsSymbol(last), -0.5)
	fluency += when(!unicode.IsPunct(last) && functionWords[s.response.words[s.n-1]] && s.n > 3, -0.5)
	first, _ := utf8.DecodeRuneInString(text)
	fluency += when(unicode.IsLower(first), -0.25)
	fluency += when(s.n > 2 && text == strings.ToUpper(text) && text != strings.ToLower(text), -0.75)
	fluency += when(s.n <= 2, -0.5)
	return fluency
}

// loops is the share of word trigrams that repeat an earlier one, and of words
// that repeat the word before.
func loops(list []string) float64 {
	repeats, seen := 0, map[string]bool{}
	trigrams := grams(list, 3)
	for _, g := range trigrams {
		if seen[g] {
			repeats++
		}
		seen[g] = true
	}
	stutters := 0
	for i := 1; i < len(list); i++ {
		if list[i] == list[i-1] && len(list[i]) > 1 {
			stutters++
		}
	}
	share := float64(stutters) / float64(max(1, len(list)))
	return min(1, share+float64(repeats)/float64(max(1, len(trigrams))))
}

// oddWord tells keyboard noise: long and without a vowel, or one letter in a row.
func oddWord(w string) bool {
	runes := []rune(w)
	run, vowel := 1, false
	for i, r := range runes {
		vowel = vowel || strings.ContainsRune("aeiouyáéíóúäöü", r) || unicode.IsDigit(r) || r > 0x24F
		if i > 0 && r == runes[i-1] {
			if run++; run >= 4 {
				return true
			}
			continue
		}
		run = 1
	}
	return !vowel && len(runes) >= 4 || len(runes) > 24
}

func when(holds bool, points float64) float64 {
	if holds {
		return points
	}
	return 0
}

func clamp(x, ceiling float64) float64 {
	return math.Round(100*max(0, min(x, ceiling, 5))) / 100
}
