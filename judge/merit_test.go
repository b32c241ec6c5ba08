package judge

import (
	"math/rand/v2"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/logistic"
)

// cannedFitted are answers that fit everywhere, written for the fit: what the
// judge learns as having no substance.
var cannedFitted = []string{
	"I see.", "Okay, I understand.", "Oh no.", "I hear you.", "Go on, please.", "Thank you for telling me.", "That makes sense.",
	"I am sorry you feel that way.", "I'm really sorry that you have to go through this.", "That must be so hard for you.",
	"It sounds like you are having a rough time.", "I can imagine how hard this is.", "I know exactly how you feel.",
	"You are not alone in this.", "Everything will work out in the end.", "Stay strong, better days will come.",
	"Please don't worry so much about it.", "Things like this take time to heal.", "I believe in you.", "You can do this!",
	"I am proud of you for opening up.", "It is okay to feel the way you do.", "Your feelings matter.",
	"What is on your mind today?", "How does that make you feel?", "Can you tell me a little more about it?", "And how did you react?",
	"What do you think would help you right now?", "How long have you been feeling like this?", "Is there anything else you would like to share?",
	"Have you talked about this with anybody?", "Do you have people around you who support you?", "What have you tried so far?",
	"Maybe you could try to relax and take a deep breath.", "You should take some time for yourself.",
	"I would suggest that you talk to a professional about how you feel.", "Try to focus on the positive things in your life.",
	"One step at a time is the best way forward.", "Have you considered doing something that you enjoy?",
	"I understand how difficult this must be for you, and I want you to know that I am here to listen.",
	"Thank you so much for sharing that with me. It takes a lot of courage to talk about such things.",
	"It is completely understandable that you are upset. Anyone in your situation would feel the same way.",
	"I'm sorry to hear that you are struggling. Remember that it is okay to ask for help and that you deserve support.",
	"I hear how painful this is. Your emotions are valid and important, and you don't have to face them alone.",
	"That sounds really tough. Be gentle with yourself and take things one day at a time. I am here if you need to talk.",
	"I can tell that this means a lot to you. Would you like to explore together what you could do next?",
	"It seems that you are carrying a heavy burden. Sometimes talking about it can already bring some relief. What troubles you the most?",
	"You have been through so much, and you are still here. That shows how strong you are. I have no doubt that you will get through this.",
	"I went through something similar once and I know how it feels. It does get better with time.",
	"Many people experience this at some point in their lives, so please do not be too hard on yourself.",
	"Whatever happens, remember that you are a good person and that you deserve to be happy.",
	"Let's work on this together. We will find a way, I am sure of it.",
	"I appreciate your trust. Please take all the time you need.",
	"It might help to write your thoughts down or to talk to a close friend.",
	"That is a really good point. I think you are on the right path.",
	"I wish you all the best for the future. Take care of yourself!",
	"I understand.",
	"That sounds really hard.",
	"I'm so sorry to hear that. I'm here for you.",
	"I understand how you feel. That must be very difficult for you.",
	"It sounds like you're going through a lot right now. How are you coping?",
	"Tell me more about what has been bothering you.",
	"Have you thought about speaking with someone you trust?",
	"Don't give up, I'm sure it will all be fine soon.",
	"It's perfectly normal to feel overwhelmed sometimes. Try to get some rest and be kind to yourself.",
	"Thanks for reaching out. Your feelings are completely valid, and I'm glad you felt able to talk to me about this.",
	"I can see why you would feel like that. What do you think is the next step for you?",
	"I want you to know that you are heard and that you matter. It is not easy to talk about these things, but you are doing the right thing by looking for help.",
}

// cannedTuned are others that nothing is fitted to, but that were looked at while
// the odds and the word lists were chosen: they flatter the judge.
var cannedTuned = []string{
	"I'm sorry to hear that.",
	"It must be really tough for you to deal with this.",
	"Can you explain a bit more about your situation?",
	"I'm here to support you in any way I can.",
	"Have you tried talking to your family or friends about your problem?",
	"That's great! Keep up the good work.",
	"I understand that you're feeling down. It's important to remember that you're not alone and that there is always hope.",
	"It's okay to feel this way. Many people face similar challenges, and with time and support you can overcome them.",
	"I hear what you're saying, and it sounds incredibly stressful. What's the hardest part for you?",
	"Maybe taking a short walk or listening to some music could lift your mood a little.",
	"Life can be unfair at times, but I am confident that you will find your way.",
	"Thank you for your trust. Let me know how I can best support you today.",
}

// cannedFresh were written when the judge was finished, and measured once. Whoever
// changes the judge in their view needs others to measure it by.
var cannedFresh = []string{
	"That must hurt a lot.",
	"Oh, I see what you mean.",
	"I'm sorry things have been so rough lately.",
	"What would make you feel better?",
	"I really feel for you and hope things get easier soon.",
	"You seem to be handling this as well as anyone could.",
	"Sometimes it helps just to get things off your chest.",
	"Could you walk me through what happened?",
	"Remember to look after yourself and lean on the people who love you.",
	"I can hear the frustration in your words. It's natural to react that way, and I appreciate your honesty.",
	"Perhaps a counselor or therapist could give you some tools to manage this.",
	"No matter how dark it seems now, there is light at the end of the tunnel.",
}

// echoes put words of the seeker's last message into a canned answer: some words
// at its end; some in a frame; the message's beginning, quoted; the whole message;
// one word in the last sentence.
var echoes = []func(canned, last string) string{
	func(canned, last string) string { return canned + " " + strings.Join(contentWords(last, 4), " ") + "." },
	func(canned, last string) string {
		if some := contentWords(last, 2); len(some) > 0 {
			return "So it is about " + strings.Join(some, " and ") + ". " + canned
		}
		return canned
	},
	func(canned, last string) string {
		list := strings.Fields(last)
		return "You said " + strings.Join(list[:min(8, len(list))], " ") + ". " + canned
	},
	func(canned, last string) string { return canned + " " + last },
	func(canned, last string) string {
		if some := contentWords(last, 1); len(some) > 0 {
			return strings.TrimRight(canned, ".!?") + " with the " + some[0] + "."
		}
		return canned
	},
}

// contentWords returns the first few words that carry meaning, in order.
func contentWords(text string, few int) []string {
	var list []string
	for _, w := range words(text) {
		if len(w) > 2 && !functionWords[w] && len(list) < few {
			list = append(list, w)
		}
	}
	return list
}

func lastOf(chat []esc.Message) string {
	if len(chat) == 0 {
		return ""
	}
	return chat[len(chat)-1].Content
}

// fitMerit fits coherence on answers against those of other dialogues, and
// substance on answers against canned ones, half of them with echoed words, on
// dialogues that the towers have not seen.
func (t *tables) fitMerit(unseen []observed, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var coherence, substance []logistic.Example
	add := func(s setting, a answer, belongs, own, aside bool) {
		c, x := t.fit(s, a)
		if !aside {
			coherence = append(coherence, dense(c[:], belongs))
		}
		substance = append(substance, dense(x[:], own))
	}
	for i, here := range unseen {
		add(here.setting, here.answer, true, true, false)
		for n := 0; n < 3; {
			if other := unseen[rng.IntN(len(unseen))]; other.turn.Dialogue != here.turn.Dialogue {
				add(here.setting, other.answer, false, true, false)
				n++
			}
		}
		for n := range 2 {
			canned := cannedFitted[rng.IntN(len(cannedFitted))]
			add(here.setting, t.answer(canned), false, false, true)
			echo := echoes[(2*i+n)%len(echoes)]
			add(here.setting, t.answer(echo(canned, lastOf(here.turn.Context))), false, false, true)
		}
	}
	set := func(into []float32, examples []logistic.Example, odds float64) {
		for i, w := range logistic.Fit(examples, len(into), 1, balanced(examples, odds)) {
			into[i] = float32(w)
		}
	}
	set(t.Coherence[:], coherence, 1)
	set(t.Substance[:], substance, 0.3)
}

func dense(x []float64, y bool) logistic.Example {
	e := logistic.Example{Y: y}
	for i, v := range x {
		if v != 0 {
			e.At, e.Value = append(e.At, i), append(e.Value, v)
		}
	}
	return e
}
