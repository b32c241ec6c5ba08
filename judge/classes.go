package judge

import (
	"fmt"
	"strings"

	"github.com/esclab/esclab/esc"
)

// classes holds, by PsyError, how evidence is weighed: the least points without
// which the class is not reported, whatever else speaks for it (below zero or at
// it: evidence against), and those beyond
// doubt. The points are set by hand from the definitions of the paper's
// Appendix A.2.
var classes = [esc.NumPsyErrors]struct {
	least, certain int
	evidence       func(signs) tally
}{
	esc.StrategyMismatch:  {0, 7, strategyMismatch},
	esc.LackOfEmpathy:     {-1, 6, lackOfEmpathy},
	esc.EarlyEmotionShift: {-1, 7, earlyEmotionShift},
	esc.TemplateResponse:  {-1, 5, templateResponse},
	esc.EmotionMisread:    {0, 3, emotionMisread},
}

// strategyMismatch looks for another strategy than the gold one, for a text that
// does not carry out the strategy it names, and for a strategy at the wrong moment.
func strategyMismatch(s signs) (t tally) {
	strategy, gold := s.request.Strategy, s.request.Gold
	if gold.Valid() {
		if strategy.Valid() && strategy != gold {
			t.add(3, true, WrongStrategy(s.request))
		}
		return t
	}
	r := s.response
	t.add(-2, s.n <= 3, "")
	t.add(-1, s.opening || s.closing, "")
	t.add(1, s.n >= 9, "")
	switch strategy {
	case esc.Question:
		t.add(3, !s.question && !r.begins(questionWords), "a Question that asks nothing")
		t.add(2, len(s.distress) > 0 && s.acknowledges == "", "asks on right after a feeling was shown")
		t.add(1, s.directs != "", "a Question that advises")
	case esc.Restatement:
		t.add(2, !r.has(restatingFrame), "a Restatement that says nothing back")
		t.add(1, s.shared == 0, "nothing of the seeker's words")
		t.add(1, s.question && s.n < 16, "")
	case esc.Reflection:
		t.add(2, !r.has(feelingFrame) && len(s.feelings) == 0, "a Reflection without a feeling")
		t.add(2, s.directs != "", "a Reflection that advises")
		t.add(1, r.has(firstPerson), "")
	case esc.SelfDisclosure:
		t.add(3, !r.has(firstPerson), "a Self-disclosure without the supporter's own experience")
		t.add(2, s.directs != "", "a Self-disclosure that advises")
		t.add(2, s.question, "a Self-disclosure that asks")
		t.add(1, s.acknowledges == "" && len(s.distressRecent) > 0, "")
	case esc.Affirmation:
		t.add(2, s.directs != "", "an Affirmation that advises")
		t.add(2, !r.has(praising) && s.n > 3, "an Affirmation without a strength or comfort")
		t.add(1, s.question, "")
		t.add(1, len(s.distress) > 0 && s.acknowledges == "", "")
	case esc.Suggestions:
		t.add(3, s.directs == "" && !s.question && s.n > 3, "Providing Suggestions without a suggestion")
		t.add(1, s.n >= 16 && !s.asked, "long advice that was not asked for")
		t.add(-1, s.question, "")
	case esc.Information:
		t.add(2, s.directs != "" && s.presses != "", "Information that orders")
		t.add(2, s.question && s.n < 16, "Information that asks")
	case esc.Others:
		t.add(2, s.directs != "" && s.n > 8, "Others that advises")
		t.add(1, len(s.distress) > 0 && s.n > 8, "small talk beside a feeling")
	}
	return t
}

// WrongStrategy is the reason of a strategy mismatch where the gold strategy
// is known.
func WrongStrategy(r Request) string {
	return fmt.Sprintf("%s where %s belongs", r.Strategy, r.Gold)
}

// lackOfEmpathy looks for a short or distant answer that takes nothing up.
func lackOfEmpathy(s signs) (t tally) {
	if s.n == 0 {
		t.add(4, true, "says nothing")
		return t
	}
	t.add(2, s.n <= 3, "hardly any words")
	t.add(1, s.n >= 4 && s.n <= 8, "few words")
	t.add(-2, s.n >= 16, "")
	t.add(1, s.shared == 0, "takes up nothing the seeker said")
	t.add(1, s.acknowledges == "" && len(s.feelings) == 0, "no sign of understanding")
	t.add(1, len(s.distressRecent) > 0, "although the seeker shows distress")
	t.add(-2, s.acknowledges != "", "")
	t.add(-2, len(s.feelings) > 0, "")
	t.add(-1, s.directs != "", "")
	t.add(1, s.request.Strategy == esc.Others || s.request.Strategy == esc.Information, "")
	t.add(-1, s.question && s.n >= 4, "")
	t.add(-1, s.opening && s.question, "")
	t.add(-1, s.closing && s.n > 3, "")
	t.add(1, s.hostile != "", "hostile words")
	return t
}

// earlyEmotionShift looks for advice, cheer or facts before the feeling was taken
// up.
func earlyEmotionShift(s signs) (t tally) {
	t.add(1, len(s.distressRecent) > 0, "the seeker is in distress ("+first(s.distressRecent)+")")
	t.add(1, len(s.distress) > 0, "")
	t.add(2, s.directs != "", "moves to advice ("+quoted(s.directs)+")")
	t.add(2, s.request.Strategy == esc.Suggestions, "suggests at once")
	t.add(1, s.request.Strategy == esc.Information, "informs at once")
	t.add(1, s.cheers != "", "brightens the tone ("+quoted(s.cheers)+")")
	t.add(-4, s.acknowledges != "", "")
	t.add(-1, s.asked, "")
	t.add(-3, s.n <= 3, "")
	t.add(-1, len(s.distressRecent) == 0, "")
	t.add(-2, s.request.Strategy == esc.Restatement || s.request.Strategy == esc.SelfDisclosure || s.request.Strategy == esc.Others, "")
	return t
}

// templateResponse looks for an answer that could stand in any conversation.
func templateResponse(s signs) (t tally) {
	strategy := s.request.Strategy
	expressive := strategy == esc.Restatement || strategy == esc.Reflection || strategy == esc.Affirmation || strategy == esc.SelfDisclosure
	t.add(4, s.repeated, "said before in this conversation")
	t.add(3, s.usage.common, "its wording recurs in "+s.usage.where)
	t.add(2, s.stock != "", "a stock phrase ("+quoted(s.stock)+")")
	t.add(1, s.n <= 6, "short")
	t.add(1, s.content <= 2, "hardly a word of its own")
	t.add(1, expressive && s.content <= 1, "")
	t.add(-1, s.shared > 0, "")
	t.add(-1, s.n >= 16, "")
	t.add(-1, s.directs != "", "")
	t.add(-1, s.question, "")
	t.add(-2, s.closing || s.opening, "")
	return t
}

// emotionMisread looks for an answer that is hostile, dismissive, cheerful at the
// wrong moment, or names a feeling that the seeker did not show.
func emotionMisread(s signs) (t tally) {
	r := s.response
	t.add(3, s.hostile != "", "hostile words ("+quoted(s.hostile)+")")
	t.add(2, s.dismisses != "" && len(s.distressRecent) > 0, "plays the feeling down ("+quoted(s.dismisses)+")")
	t.add(1, s.dismisses != "", "")
	t.add(3, r.begins(positiveOpeners) && len(s.distress) > 0 && len(s.last.in(happy)) == 0,
		"cheerful while the seeker is in distress ("+first(s.distress)+")")
	stranger := strangeFeeling(r, s.recent)
	t.add(3, stranger != "" && s.request.Strategy != esc.SelfDisclosure, "names a feeling that the seeker does not show ("+quoted(stranger)+")")
	t.add(1, r.begins(contradicting) && len(s.distress) > 0, "contradicts a feeling")
	return t
}

// strangeFeeling returns the first feeling that the response sees in the seeker
// ("you seem …") while the seeker shows feelings, but none of its group.
func strangeFeeling(response, seeker phrases) string {
	shown := map[string]bool{}
	for _, group := range feelingGroups {
		if len(seeker.in(group.words)) > 0 {
			shown[group.name] = true
		}
	}
	if len(shown) == 0 {
		return ""
	}
	for i, w := range response.words {
		for _, group := range feelingGroups {
			if !group.words[w] || shown[group.name] {
				continue
			}
			before := " " + strings.Join(response.words[max(0, i-4):i], " ") + " "
			if (phrases{text: before}).has(naming) {
				return w
			}
		}
	}
	return ""
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
