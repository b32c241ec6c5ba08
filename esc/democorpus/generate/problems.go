package main

// clause says one fact from both sides.
type clause struct{ I, You string }

// exchange is a question and its answer.
type exchange struct{ Ask, Answer string }

// problem is the material for dialogues about one kind of trouble. All texts
// are sentences, except where noted.
type problem struct {
	Type       string
	Emotions   []string   // keys of emotions
	Events     []clause   // what happened; no capital, no full stop
	Details    []clause   // what makes it worse; no capital, no full stop
	Explore    []exchange // supporter asks, seeker answers
	Doubts     []string   // seeker about herself
	Strengths  []string   // clause after "that"
	Advice     []string   // infinitive without "to"
	Facts      []exchange // seeker asks, supporter informs
	Disclosure []string   // supporter about himself
}

var problems = []problem{
	{
		Type:     "job crisis",
		Emotions: []string{"anxiety", "fear", "shame"},
		Events: []clause{
			{"I lost my job at the bakery last week", "you lost your job at the bakery last week"},
			{"my company let half of my team go, and me with them", "your company let half of your team go, and you with them"},
			{"my boss told me that my contract ends this month", "your boss told you that your contract ends this month"},
			{"my hours were cut to almost nothing", "your hours were cut to almost nothing"},
		},
		Details: []clause{
			{"the rent is due soon and I have little saved", "the rent is due soon and there is little saved"},
			{"I have sent twenty applications and nobody answers", "twenty applications went out and nobody answers"},
			{"my family still thinks that everything is fine", "your family still thinks that everything is fine"},
			{"I keep waking up at night and counting bills", "you keep waking up at night and counting bills"},
		},
		Explore: []exchange{
			{"How long had you been working there?", "Almost six years. It was my first real job."},
			{"Is there anyone who helps you carry this?", "My sister knows, but she has her own worries."},
			{"What worries you most right now?", "That I will not be able to pay for my flat."},
			{"What was the work like before this happened?", "I liked it. The people were kind to me."},
		},
		Doubts: []string{
			"Maybe I was just not good enough at my work.",
			"I feel useless without a job.",
			"I do not think anyone will hire me again.",
		},
		Strengths: []string{
			"you kept going to work with care for years",
			"you started to look for something new right away",
			"you think of your family even in a week like this",
		},
		Advice: []string{
			"write down which bills cannot wait and call about the others",
			"ask a former colleague to read your applications",
			"keep one hour a day for the search and let the rest of the day be yours",
			"tell one person in your family how things really are",
		},
		Facts: []exchange{
			{"Do you know if I can get any money from the state?", "In many places you can ask for unemployment benefits from the first day without work. The local job office can tell you which papers they need."},
			{"How long does it usually take to find a new job?", "For many people it takes three to six months. A slow start is common and says little about you."},
			{"Is there anyone who helps with applications for free?", "Many libraries and job offices offer free help with applications. It is usually enough to call and ask for a date."},
		},
		Disclosure: []string{
			"When I lost a job some years ago, I could hardly get out of bed for a week.",
			"I have been without work too, and I remember how heavy each bill felt.",
			"I once hid it from my parents that I had been let go, because I was ashamed.",
		},
	},
	{
		Type:     "breakup with partner",
		Emotions: []string{"sadness", "anger", "loneliness"},
		Events: []clause{
			{"my girlfriend left me after four years", "your girlfriend left you after four years"},
			{"my husband moved out on Sunday", "your husband moved out on Sunday"},
			{"my boyfriend ended things with a short message", "your boyfriend ended things with a short message"},
			{"I found out that my partner has been seeing someone else", "you found out that your partner has been seeing someone else"},
		},
		Details: []clause{
			{"all our pictures are still on the wall", "all the pictures are still on the wall"},
			{"we have the same friends, so I see no one now", "you share the same friends, so you see no one now"},
			{"I reach for the phone every evening", "you reach for the phone every evening"},
			{"nobody told me why", "nobody told you why"},
		},
		Explore: []exchange{
			{"When did this happen?", "Only a few days ago. It still feels unreal."},
			{"Did you see any signs before?", "We argued more than usual, but I thought it would pass."},
			{"Who have you been able to talk to?", "Nobody so far. I did not want to bother my friends."},
			{"How have you been sleeping and eating since then?", "Badly. I eat some bread and lie awake."},
		},
		Doubts: []string{
			"I must have done everything wrong.",
			"Perhaps I am just hard to love.",
			"I gave too little and now it is too late.",
		},
		Strengths: []string{
			"you loved someone with your whole heart",
			"you can talk about it openly so soon",
			"you look for your own part without hiding anything",
		},
		Advice: []string{
			"put the pictures in a box for a while",
			"plan something small for the evenings, when it is hardest",
			"write a letter that you never send",
			"call the friend you miss most, even for ten minutes",
		},
		Facts: []exchange{
			{"How long does it take until this stops hurting?", "Many people notice after some months that the worst is over. It comes in waves, and a bad day does not mean that you are back at the start."},
			{"Is it normal that I cannot eat?", "Yes, a breakup is stress for the whole body, and the appetite often goes for a week or two. If it lasts much longer, a doctor can help."},
			{"Are there groups for people like me?", "Yes, many towns and counselling centres have groups for people after a separation. They often meet once a week and cost nothing."},
		},
		Disclosure: []string{
			"After my own separation I kept setting the table for two.",
			"I went through a breakup that I did not see coming, and I know how empty the rooms get.",
			"I was left once as well, and for weeks I looked for the mistake in everything I had said.",
		},
	},
	{
		Type:     "academic pressure",
		Emotions: []string{"anxiety", "shame", "fear"},
		Events: []clause{
			{"I failed my statistics exam for the second time", "you failed your statistics exam for the second time"},
			{"I have three papers due in the same week", "you have three papers due in the same week"},
			{"I am falling behind in every class this term", "you are falling behind in every class this term"},
			{"my scholarship depends on one last grade", "your scholarship depends on one last grade"},
		},
		Details: []clause{
			{"everyone else seems to learn so easily", "everyone else seems to learn so easily"},
			{"I sit in the library until midnight and remember nothing", "you sit in the library until midnight and little stays"},
			{"my parents pay for all of it", "your parents pay for all of it"},
			{"my mind goes blank as soon as I see the sheet", "your mind goes blank as soon as you see the sheet"},
		},
		Explore: []exchange{
			{"Which part of it weighs the most?", "The exams. I cannot breathe when I think of them."},
			{"How do your days look at the moment?", "I study, I eat at my desk, and I study again."},
			{"Have you told a teacher how it is going?", "No, I am too embarrassed to ask for time."},
			{"What made you choose this subject?", "I loved it at school. I wanted to understand things."},
		},
		Doubts: []string{
			"I am too stupid for this subject.",
			"I do not belong at this university.",
			"I only disappoint the people who believe in me.",
		},
		Strengths: []string{
			"you keep sitting down to study although it is so hard",
			"you care about what you learn and not only about the grade",
			"you came this far in a difficult subject",
		},
		Advice: []string{
			"study in blocks of half an hour with real breaks between them",
			"ask your teacher which chapters matter most",
			"find one person from class to practise with",
			"put the three papers in an order and begin with the shortest",
		},
		Facts: []exchange{
			{"Can I ask for more time, or is that forbidden?", "Most universities allow an extension if you ask before the date. The office for students can tell you what they need from you."},
			{"Is there help for people who panic in exams?", "Yes, many universities have free counselling, and some let you write the exam in a quiet room. You can ask about both in one visit."},
			{"Does it even make sense to study at night?", "Sleep is when the brain stores what it has learned, so a full night usually brings more than two extra hours at the desk."},
		},
		Disclosure: []string{
			"I failed an important exam myself and did not dare to tell anyone.",
			"In my second year I was behind in everything, so this sounds very familiar.",
			"I used to go blank in exams too, with cold hands and all.",
		},
	},
	{
		Type:     "problems with friends",
		Emotions: []string{"loneliness", "sadness", "anger"},
		Events: []clause{
			{"my best friend stopped answering my messages", "your best friend stopped answering your messages"},
			{"my friends went on a trip and did not ask me", "your friends went on a trip and did not ask you"},
			{"a friend told everyone something I had said in confidence", "a friend told everyone something you had said in confidence"},
			{"I had a big fight with my oldest friend", "you had a big fight with your oldest friend"},
		},
		Details: []clause{
			{"I saw the pictures online, all of them laughing", "you saw the pictures online, all of them laughing"},
			{"I do not know what I did wrong", "you do not know what went wrong"},
			{"we used to talk every day", "you two used to talk every day"},
			{"I have nobody to spend the weekend with", "there is nobody to spend the weekend with"},
		},
		Explore: []exchange{
			{"How long have you known each other?", "Since we were children. We grew up in the same street."},
			{"What happened just before it changed?", "I got a new job and had less time for a while."},
			{"Have you been able to ask them about it?", "I wrote once, but I got no answer."},
			{"What do you miss most?", "Laughing together about small things."},
		},
		Doubts: []string{
			"Maybe I am a boring person.",
			"It is probably my own fault that nobody stays.",
			"I am always the one who is too much.",
		},
		Strengths: []string{
			"you are loyal and do not give up on people quickly",
			"you ask yourself honest questions about it",
			"you reached out first, which takes courage",
		},
		Advice: []string{
			"write a short message that only says that you miss them",
			"meet one of them alone instead of the whole group",
			"try a class or a club where you see the same people each week",
			"say calmly how it felt to be left out",
		},
		Facts: []exchange{
			{"Is it usual to lose friends at my age?", "Yes, many people lose and change friends when jobs or homes change. New closeness takes time, often dozens of hours together."},
			{"Where do people even meet new friends?", "Most adults find friends where they return regularly: courses, sports, volunteering, a choir. Seeing the same faces matters more than the place."},
			{"Do you know whether it helps to talk it out?", "Often it does, if both have calmed down. Sentences that begin with how you felt are heard more easily than accusations."},
		},
		Disclosure: []string{
			"A close friend of mine went silent once, and I still remember checking my phone all day.",
			"I know that feeling of seeing the pictures and not having been asked.",
			"I lost an old friend over a quarrel, and it hurt more than I had expected.",
		},
	},
}
