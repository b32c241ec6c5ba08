package main

var moreProblems = []problem{
	{
		Type:     "conflict with parents",
		Emotions: []string{"anger", "sadness", "shame"},
		Events: []clause{
			{"my father has not spoken to me since I changed my studies", "your father has not spoken to you since you changed your studies"},
			{"my parents read my letters again", "your parents read your letters again"},
			{"my mother calls five times a day and criticises everything", "your mother calls five times a day and criticises everything"},
			{"I told my parents about my partner and they sent me away", "you told your parents about your partner and they sent you away"},
		},
		Details: []clause{
			{"they compare me with my brother all the time", "they compare you with your brother all the time"},
			{"the holidays are coming and I do not know where to go", "the holidays are coming and it is unclear where you will be"},
			{"every talk ends with shouting", "every talk ends with shouting"},
			{"I still live in their house", "you still live in their house"},
		},
		Explore: []exchange{
			{"How was it between you before?", "We were close when I was small. I miss that."},
			{"What would you like them to understand?", "That I am grown up and allowed to choose."},
			{"Is there someone in the family on your side?", "My aunt, a little. She listens at least."},
			{"What do you do when it gets loud?", "I go to my room and put on music."},
		},
		Doubts: []string{
			"I am a bad child, I only make trouble.",
			"Maybe they are right and I ruin everything.",
			"I will never be what they wanted.",
		},
		Strengths: []string{
			"you still look for a way to talk to them",
			"you stand by what matters to you",
			"you stayed calm so many times",
		},
		Advice: []string{
			"choose a quiet hour and say one thing at a time",
			"agree on a fixed time for calls and keep to it",
			"ask your aunt to be there for the next talk",
			"write down which rules you could accept and which you could not",
		},
		Facts: []exchange{
			{"Do families ever get over something like this?", "Many do. Studies on families say that contact often returns step by step, and short calm meetings help more than one big talk."},
			{"Is there counselling for grown children and parents?", "Yes, family counselling centres take adults as well. You can also go alone first, and the talks are confidential."},
			{"Are they allowed to read my letters?", "Letters are private in most countries, also within a family. A counselling centre can tell you the rules where you live."},
		},
		Disclosure: []string{
			"My father and I did not talk for a whole year, so I have an idea of that silence.",
			"I was compared with my sister until I believed it myself.",
			"My own mother had trouble letting me go, and I was torn between anger and guilt.",
		},
	},
	{
		Type:     "sleep problems",
		Emotions: []string{"anxiety", "sadness", "fear"},
		Events: []clause{
			{"I have not slept more than four hours for weeks", "you have not slept more than four hours for weeks"},
			{"I wake up from nightmares almost every night", "you wake up from nightmares almost every night"},
			{"I lie awake until the birds begin to sing", "you lie awake until the birds begin to sing"},
			{"since the accident I am afraid to fall asleep", "since the accident you are afraid to fall asleep"},
		},
		Details: []clause{
			{"I make mistakes at work because I am so tired", "mistakes happen at work because you are so tired"},
			{"my thoughts go round in circles", "your thoughts go round in circles"},
			{"I snap at my children in the morning", "you snap at your children in the morning"},
			{"I look at the clock every ten minutes", "you look at the clock every ten minutes"},
		},
		Explore: []exchange{
			{"When did it begin?", "In spring, when we moved to the new flat."},
			{"What goes through your head at night?", "Everything I did not finish during the day."},
			{"What have you tried so far?", "Tea, warm milk, counting. Nothing works for long."},
			{"How do you get through the day?", "With a lot of coffee, and I cancel most things."},
		},
		Doubts: []string{
			"I cannot even do something as simple as sleeping.",
			"I am failing as a parent because of this.",
			"I am just weak, other people manage.",
		},
		Strengths: []string{
			"you get up and care for others after nights like these",
			"you have tried so many things already",
			"you notice how it affects you and speak about it",
		},
		Advice: []string{
			"turn the clock around so that you cannot see it",
			"write your thoughts on paper an hour before bed",
			"get up at the same time each day, even after a bad night",
			"leave the bed for a while when you have been awake for long",
		},
		Facts: []exchange{
			{"How much sleep does a person really need?", "Most adults do well with seven to nine hours, but it differs. A few short nights are unpleasant and not dangerous."},
			{"Is the coffee making it worse?", "It may. Caffeine stays in the body for many hours, so doctors often advise to have the last cup before noon."},
			{"Should I see a doctor about it?", "If it lasts longer than four weeks, it is a good idea. There is a short therapy for sleep that helps many people without pills."},
		},
		Disclosure: []string{
			"I had a long time of bad nights too, and I dreaded the evening.",
			"After a difficult year I used to wake at three and could not stop thinking.",
			"I know these grey mornings, when everything feels far away.",
		},
	},
	{
		Type:     "ongoing depression",
		Emotions: []string{"sadness", "loneliness", "shame"},
		Events: []clause{
			{"I have felt low for months and nothing brings me joy", "you have felt low for months and nothing brings you joy"},
			{"I stopped going out after the winter", "you stopped going out after the winter"},
			{"I cry without knowing why", "the tears come without a reason you can name"},
			{"I cannot bring myself to do the simplest things", "even the simplest things have become hard to begin"},
		},
		Details: []clause{
			{"the dishes have been standing there for days", "the dishes have been standing there for days"},
			{"I stopped painting, which I used to love", "you stopped painting, which you used to love"},
			{"my friends have given up calling", "your friends have given up calling"},
			{"every day looks like the one before", "every day looks like the one before"},
		},
		Explore: []exchange{
			{"How long have you been feeling like this?", "Since last autumn, I think. It came slowly."},
			{"Is there a time of day that is a little easier?", "Late in the evening, when it is quiet."},
			{"Do you have someone who looks after you?", "My neighbour knocks sometimes. I rarely open."},
			{"What did you enjoy before all this?", "Painting, and long walks by the river."},
		},
		Doubts: []string{
			"I am only a burden to everyone.",
			"I am lazy, that is all it is.",
			"Nothing I do is ever worth anything.",
		},
		Strengths: []string{
			"you found the words to tell me this today",
			"you have carried so much for months",
			"there is still someone in you who loves colours",
		},
		Advice: []string{
			"choose one very small thing for today, like washing a single cup",
			"open the door the next time your neighbour knocks",
			"walk to the river and back without any plan",
			"make an appointment with your doctor and take a note with you",
		},
		Facts: []exchange{
			{"Is this an illness, or is it just me?", "A low mood that lasts for months can be a depression, which is an illness and can be treated well. Only a doctor can tell for sure, and it is worth asking."},
			{"Does therapy really help against this?", "For many people it does. Talking therapy helps more than half of those who take part, and it often shows within a few months."},
			{"Whom could I call when the nights get too dark?", "There are telephone helplines with trained people, day and night and free of charge. If you ever think of harming yourself, please call one or the emergency number at once."},
		},
		Disclosure: []string{
			"There was a winter when I hardly left my room, and I thought it would never end.",
			"I have known days when a cup in the sink felt like a mountain.",
			"I had to learn myself that asking for help is hard, and that it was worth it.",
		},
	},
	{
		Type:     "moving to a new place",
		Emotions: []string{"loneliness", "anxiety", "fear"},
		Events: []clause{
			{"I moved to a new city in March and know nobody", "you moved to a new city in March and know nobody"},
			{"I came to this country alone last year", "you came to this country alone last year"},
			{"we moved for my wife's job and I left everything behind", "your family moved for your wife's job and you left everything behind"},
			{"I started at a new school in the middle of the year", "you started at a new school in the middle of the year"},
		},
		Details: []clause{
			{"I eat alone every single day", "you eat alone every single day"},
			{"people laugh at my accent", "people laugh at your accent"},
			{"I miss my grandmother, who is old", "you miss your grandmother, who is old"},
			{"my flat still has no curtains", "your flat still has no curtains"},
		},
		Explore: []exchange{
			{"What do you miss most about home?", "The market on Saturdays, and people who know my name."},
			{"Have you met anyone you like so far?", "A woman at the bus stop smiles at me. That is all."},
			{"What is the hardest hour of the day?", "Sunday afternoon. Everyone has a family then."},
			{"How often do you talk to your people at home?", "Once a week. I tell them that all is well."},
		},
		Doubts: []string{
			"I should be stronger than this.",
			"Perhaps the whole move was a mistake of mine.",
			"I am too shy, I will always stand at the edge.",
		},
		Strengths: []string{
			"you dared to begin again in a strange place",
			"you learned a new language along the way",
			"you stay in touch with the people you love",
		},
		Advice: []string{
			"say good morning to the woman at the bus stop",
			"go to the same small café every Saturday",
			"tell your family once how it really is",
			"hang up something from home where you see it first",
		},
		Facts: []exchange{
			{"How long does it take to feel at home?", "Many people say that it takes about a year, with the hardest time in the first months. Small routines shorten it."},
			{"Are there places where newcomers meet?", "Most towns have a welcome office, language cafés and sports clubs with open evenings. The library usually has a list."},
			{"Do other people find it this hard too?", "Yes, surveys show that about every third person feels lonely after a move. Most of them never say it aloud."},
		},
		Disclosure: []string{
			"When I moved for work, I talked to nobody but the cashier for weeks.",
			"I came to my town as a stranger as well, and Sundays were the worst.",
			"I remember pretending on the phone that I had made friends.",
		},
	},
}
