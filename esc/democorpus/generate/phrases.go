package main

// emotion is the material for one feeling.
type emotion struct {
	Type    string   // ESConv's emotion_type
	Seeker  []string // what the seeker says
	Reflect []string // what the supporter says back
}

var emotions = map[string]emotion{
	"anxiety": {"anxiety",
		[]string{"I feel so anxious that my chest gets tight.", "I am nervous all day long.", "I feel restless and worried all the time."},
		[]string{"It sounds as if the worry never leaves you alone.", "You seem very tense and anxious, and that is exhausting.", "I can hear how worried you are, even in your body."}},
	"fear": {"fear",
		[]string{"I feel scared of what comes next.", "Honestly, I am afraid and I shake sometimes.", "I feel a fear that I cannot shake off."},
		[]string{"You sound really frightened of what may come.", "I sense a lot of fear in what you say, and it must be hard to bear.", "It seems that the fear follows you through the whole day."}},
	"shame": {"shame",
		[]string{"I feel so ashamed that I avoid everyone.", "I feel embarrassed just telling you this.", "I blush when I think of it, I feel so ashamed."},
		[]string{"You seem to carry a lot of shame, and it makes you hide.", "It sounds painful and embarrassing for you, as if all eyes were on you.", "I hear how ashamed you feel, and how lonely that makes it."}},
	"sadness": {"sadness",
		[]string{"I feel so sad that I could cry right now.", "I am heartbroken, I feel empty inside.", "I feel sad from morning to night."},
		[]string{"I can hear how deeply sad you are.", "It sounds as if your heart is very heavy.", "You seem to feel empty and hurt, and the tears are close."}},
	"anger": {"anger",
		[]string{"I feel so angry that I could scream.", "I am furious, and it does not stop.", "I feel anger boiling in me every day."},
		[]string{"You sound really angry, and hurt underneath.", "I can feel how furious this makes you.", "It seems that so much anger has built up because you were treated unfairly."}},
	"loneliness": {"sadness",
		[]string{"I feel so lonely that the silence hurts.", "I feel invisible, as if nobody would miss me.", "I feel alone even among people."},
		[]string{"It sounds terribly lonely where you are.", "You feel invisible and alone, and that hurts.", "I hear how much you long for someone who sees you."}},
}

var (
	seekerGreets = []string{"Hello.", "Hi there.", "Good evening.", "Hey, is anyone there?", "Hello, I need someone to talk to.", "Hi, I hope this is the right place."}

	supporterGreets = []string{
		"Hello, it is good that you are here.", "Hi and welcome.", "Good evening, I am glad that you came by.",
		"Hello, thank you for reaching out."}
	openQuestions = []string{
		"What brings you here today?", "What is on your mind?", "How are you feeling today?",
		"What would you like to talk about?", "How has your day been so far?"}

	seekerEvent = []string{"Not so good. %s.", "%s.", "It has been a hard time. %s.", "I do not know where to begin. %s."}
	// the seeker adds a detail, which invites the supporter to sum up
	seekerDetail = []string{"And on top of it %s.", "Also, %s.", "What makes it worse: %s.", "The thing is, %s."}

	restate = []string{
		"So %s, and on top of it %s. Did I get that right?",
		"If I understand you well, %s, and %s.",
		"Let me say it in my words: %s, and now %s.",
		"In other words, %s, and %s. Is that how it is?"}

	reflectTail = []string{"", " That is a lot for one person.", " No wonder that you are tired.", " I am sorry that you have to go through this."}

	seekerAlone = []string{
		"Have you ever been through something like this?", "Does anyone else know this feeling?",
		"Am I the only one who feels like this?", "Did something like that ever happen to you?"}
	discloseTail = []string{
		" You are not the only one.", " So I understand at least a part of it.",
		" It did get easier, though slowly.", " I wish someone had told me then that it passes."}

	affirm = []string{
		"I see it differently: %s. That shows strength.", "Please do not be so hard on yourself. I notice that %s.",
		"You are doing better than you think. After all, %s.", "I admire that %s. You can trust in that."}

	seekerAsksAdvice = []string{
		"What could I do?", "Do you have any idea what I should do now?", "What would you suggest?",
		"I do not know how to go on. Any advice?", "What can I try next?"}
	advise = []string{
		"It might help to %s. What do you think?", "If you like, you could %s.",
		"One thing you might try is to %s, in your own time.", "Perhaps you could %s. Only if it feels right to you."}

	seekerAgrees = []string{"That sounds like something I could try.", "Maybe. I have not thought of that.", "I could do that tomorrow.", "Yes, that would be a first step."}
	cheer        = []string{
		"I believe that you can do it, because %s.", "That is a brave step, and %s.",
		"I am sure that it will help you that %s."}

	seekerThanks = []string{
		"Thank you so much, I feel a little lighter.", "Thanks for listening to me.", "Thank you, that helped me a lot.",
		"Thanks, it was good to talk about it."}
	welcome = []string{
		"You are very welcome. Take good care of yourself.", "I am glad that we talked. You can come back at any time.",
		"Thank you for your trust. I wish you a calm evening.", "You are welcome, and I wish you all the best."}
	seekerBye = []string{"Bye, and thank you again.", "Good night.", "Goodbye, have a nice evening.", "I will go now. Bye."}
	bye       = []string{"Goodbye, and take care.", "Good night, sleep well.", "Bye, I am keeping my fingers crossed for you."}
)
