package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/esclab/esclab/esc"
)

// writer writes one dialogue. Its draws come from a counter and the seed.
type writer struct {
	state   uint64
	used    map[string]bool // a text is said once
	problem problem
	emotion emotion
	event   clause
	lines   []esc.Utterance
}

// writeDialogue writes the dialogue of a number: exploration, comfort, action,
// and an end. Within the first three the order varies.
func writeDialogue(seed uint64, number int) esc.Dialogue {
	all := append(append([]problem{}, problems...), moreProblems...)
	w := &writer{state: seed<<20 ^ uint64(number), used: map[string]bool{}}
	w.problem = all[number%len(all)] // every kind of problem equally often
	w.emotion = emotions[pick(w, w.problem.Emotions)]
	w.event = pick(w, w.problem.Events)

	w.open()
	w.seeker(fmt.Sprintf(pick(w, seekerEvent), sentenceStart(w.event.I)))
	w.explore()
	if w.chance(0.75) {
		w.sumUp()
	}
	comfort := []func(){w.reflect, w.disclose, w.affirm}
	w.shuffle(comfort)
	for _, step := range comfort[:2+w.below(2)] {
		step()
	}
	act := []func(){w.advise, w.inform}
	w.shuffle(act)
	for _, step := range act[:1+w.below(2)] {
		step()
	}
	w.close()

	return esc.Dialogue{
		Index:          number,
		ExperienceType: []string{"Current Experience", "Previous Experience"}[w.below(2)],
		EmotionType:    w.emotion.Type,
		ProblemType:    w.problem.Type,
		Situation:      sentenceStart(w.event.I) + ".",
		Utterances:     w.lines,
	}
}

func (w *writer) open() {
	if w.chance(0.4) {
		w.supporter(esc.Others, pick(w, supporterGreets))
		w.seeker(pick(w, seekerGreets))
	} else {
		w.seeker(pick(w, seekerGreets))
		if w.chance(0.25) {
			w.supporter(esc.Others, pick(w, supporterGreets))
		}
	}
	w.supporter(esc.Question, pick(w, openQuestions))
}

func (w *writer) explore() {
	for range 1 + w.below(2) {
		e := pick(w, w.problem.Explore)
		w.supporter(esc.Question, e.Ask)
		w.seeker(e.Answer)
	}
}

// sumUp: after the seeker adds a detail, the supporter restates.
func (w *writer) sumUp() {
	detail := pick(w, w.problem.Details)
	w.seeker(fmt.Sprintf(pick(w, seekerDetail), detail.I))
	w.supporter(esc.Restatement, fmt.Sprintf(pick(w, restate), w.event.You, detail.You))
	w.seeker([]string{"Yes, exactly.", "Yes, that is how it is.", "That is right.", "Yes, I think so."}[w.below(4)])
}

// reflect: a feeling is answered with the feeling.
func (w *writer) reflect() {
	w.seeker(pick(w, w.emotion.Seeker))
	w.supporter(esc.Reflection, pick(w, w.emotion.Reflect)+pick(w, reflectTail))
}

func (w *writer) disclose() {
	w.seeker(pick(w, seekerAlone))
	w.supporter(esc.SelfDisclosure, pick(w, w.problem.Disclosure)+pick(w, discloseTail))
}

func (w *writer) affirm() {
	w.seeker(pick(w, w.problem.Doubts))
	w.supporter(esc.Affirmation, fmt.Sprintf(pick(w, affirm), pick(w, w.problem.Strengths)))
}

func (w *writer) advise() {
	w.seeker(pick(w, seekerAsksAdvice))
	w.supporter(esc.Suggestions, fmt.Sprintf(pick(w, advise), pick(w, w.problem.Advice)))
	if w.chance(0.5) {
		w.seeker(pick(w, seekerAgrees))
		w.supporter(esc.Affirmation, fmt.Sprintf(pick(w, cheer), pick(w, w.problem.Strengths)))
	}
}

func (w *writer) inform() {
	fact := pick(w, w.problem.Facts)
	w.seeker(fact.Ask)
	w.supporter(esc.Information, fact.Answer)
}

func (w *writer) close() {
	w.seeker(pick(w, seekerThanks))
	w.supporter(esc.Others, pick(w, welcome))
	if w.chance(0.3) {
		w.seeker(pick(w, seekerBye))
		w.supporter(esc.Others, pick(w, bye))
	}
}

func (w *writer) seeker(text string) {
	w.lines = append(w.lines, esc.Utterance{Speaker: esc.Seeker, Strategy: esc.NoStrategy, Text: text})
}

func (w *writer) supporter(strategy esc.Strategy, text string) {
	w.lines = append(w.lines, esc.Utterance{Speaker: esc.Supporter, Strategy: strategy, Text: text})
}

// below draws from 0..n-1 (splitmix64; the bias of the remainder is far below
// what a corpus of this size could show).
func (w *writer) below(n int) int {
	w.state += 0x9e3779b97f4a7c15
	z := w.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) >> 1 % uint64(n))
}

func (w *writer) chance(p float64) bool { return float64(w.below(1<<20)) < p*(1<<20) }

func (w *writer) shuffle(steps []func()) {
	for i := len(steps) - 1; i > 0; i-- {
		j := w.below(i + 1)
		steps[i], steps[j] = steps[j], steps[i]
	}
}

// pick draws an option that the dialogue has not used, or any if all are used.
func pick[T any](w *writer, options []T) T {
	var fresh []T
	for _, o := range options {
		if !w.used[fmt.Sprint(o)] {
			fresh = append(fresh, o)
		}
	}
	if len(fresh) == 0 {
		fresh = options
	}
	chosen := fresh[w.below(len(fresh))]
	w.used[fmt.Sprint(chosen)] = true
	return chosen
}

func sentenceStart(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + strings.TrimSuffix(s[size:], ".")
}
