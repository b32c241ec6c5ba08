package judge

// The word lists of the offline judge: general English, written for it, with
// apostrophes removed. Phrases match whole words.

var functionWords = set(`a about after again all also always am an and any are as at back be because been
	before being but by can cant could day did didnt do does doesnt doing dont done each else even ever every
	everyone few for from get gets getting go goes going gonna good got had has have having he her here hers hi
	him his how i if ill im in into is isnt it its ive just kind know lately like little ll lot lots made make
	many may maybe me mean might mine more most much must my myself need never no nor not now of off ok okay on
	once one only or other our out over own people please quite re really right said same say see she should so
	some someone something sometimes still such take tell than thank thanks that thats the their them then there
	theres they thing things think this those though thought time to today too try two until up us use ve very
	want wanted was wasnt way we well went were what whats when where which while who why will with wont would
	yeah yes yet you your youre yours yourself youve feel feeling feelings felt help hello hey sure`)

// feelings in five groups; what lies in one group is close enough to be meant.
var feelingGroups = []struct {
	name  string
	words map[string]bool
}{
	{"sadness", set(`sad sadness sadder down low depressed depressing depression unhappy miserable heartbroken
		devastated grief grieving cry crying cried tears empty hopeless helpless worthless lonely alone loneliness
		isolated hurt hurts hurting pain painful disappointed disappointing lost broken numb blue`)},
	{"anxiety", set(`anxious anxiety afraid scared scary fear fearful fears frightened terrified worry worried
		worries worrying nervous panic panicking stress stressed stressful stressing overwhelmed overwhelming
		pressure tense insecure restless`)},
	{"anger", set(`angry anger mad furious annoyed annoying irritated frustrated frustrating frustration upset
		hate resent resentful jealous betrayed unfair rage`)},
	{"shame", set(`ashamed shame embarrassed embarrassing embarrassment guilty guilt regret humiliated`)},
	{"exhaustion", set(`tired exhausted exhausting drained burnout sleepless weary fatigue worn`)},
}

// trouble are words of bad events and states beside the feelings.
var trouble = set(`problem problems issue issues trouble bad terrible awful horrible hard tough difficult
	difficulty struggle struggling struggles lose losing fired unemployed jobless laid broke breakup divorce
	divorced died death dead dying cancer sick ill illness failed failing fail failure cheated cheating abuse
	abused abusive bullied bullying debt bills eviction evicted homeless fight fighting arguing argument ignored
	rejected rejection abandoned suffering suffer worse worst cannot unable nobody suicidal insomnia nightmares
	accident cope coping`)

var happy = set(`happy glad good great better fine wonderful excited relieved well okay ok thankful grateful
	lighter hopeful awesome nice`)

var positiveOpeners = lines(`
	great, thats great, that is great, good, thats good, that is good, nice, very nice, thats nice, wonderful,
	awesome, cool, glad, i am glad, im glad, happy to hear, i am happy, im happy, so happy, excellent, congrats,
	congratulations, fantastic, haha, lol, yay, wow great, amazing, thats awesome, sounds great, sounds good,
	thats wonderful, good to hear, nice to hear, great to hear, beautiful`)

// acknowledging takes up what the seeker feels or says.
var acknowledging = lines(`
	sorry, i understand, i can understand, understandable, i hear you, i hear that, that must, it must, must be,
	must have been, must feel, you must, sounds like, it sounds, that sounds, you sound, i can imagine, i imagine,
	it seems, you seem, seems like, i can see, i can feel, i can tell, i feel for you, i feel you, i can relate,
	i relate, makes sense, its ok to, its okay to, it is ok to, it is okay to, is normal, its normal, natural to,
	completely normal, been there, been through, know how you feel, know how that feels, know how it feels,
	know what you mean, thats hard, thats tough, thats rough, thats terrible, thats awful, thats sad, so hard,
	so tough, very hard, very tough, really hard, really tough, is hard, is tough, so difficult, very difficult,
	really difficult, is difficult, be difficult, be hard, be tough, so sad, so stressful, very stressful,
	really stressful, be stressful, heartbreaking, not alone, thank you for sharing, thanks for sharing,
	appreciate you, your feelings, you are going through, youre going through, no wonder, i see that you,
	so you feel, you feel, you are feeling, youre feeling, oh no, i felt the same, i feel the same, same boat,
	how heavy, i sense, hear how`)

// directive tells what to do.
var directive = lines(`
	you should, should, you need to, need to, you have to, have to, you must, you ought, try, try to, you can,
	you could, have you tried, have you considered, have you thought, have you been able, did you try, why dont you, why not,
	how about, what about, maybe you, perhaps you, suggest, i suggest, recommend, advise, my advice, better to,
	you better, go to, go for, go out, talk to, speak to, speak with, talk with, make sure, lets, focus on, get some, take a,
	take some, take care of, keep your, find a, look for, look at, consider, it might help, it may help,
	would help, can help, might want to, may want to, want to try, stop being, start with, be patient, give it time,
	if i were you, one thing you, forget about, make a, write down, join, think of, think about`)

// pressing is directive without room for a choice.
var pressing = lines(`you should, you need to, you have to, you must, you better, dont be, stop being, you ought`)

// hedged leaves the choice to the seeker.
var hedged = lines(`
	might, maybe, perhaps, could, if you like, if you want, would you, what do you think, would it help, may,
	possibly, some people, for some, one thing, feels right, in your own time, when you are ready, i wonder`)

// cheering brightens the tone.
var cheering = lines(`
	dont worry, do not worry, no worries, dont be sad, dont cry, dont feel, dont give up, never give up, cheer up,
	be happy, be strong, be positive, stay positive, stay strong, think positive, positive thinking, be confident,
	be calm, relax, calm down, everything will, it will be, will be ok, will be okay, will be fine,
	will be alright, will be good, gonna be ok, going to be ok, going to be fine, get better, gets better, bright side, move on, moving on, let it go,
	look forward, enjoy, have fun, smile, you can do it, better days, good luck, happens for a reason, plenty of fish, at least, forget about, forget it`)

var hostile = lines(`
	your fault, your own fault, stupid, idiot, idiotic, shut up, fuck, fucking, shit, bitch, ugly, dumb, loser,
	liar, you are lying, you lie, ridiculous, get over it, who cares, dont care, do not care, not my problem, hate you,
	nonsense, pathetic, weak person, you are weak, you are crazy, youre crazy, waste of time, grow up, get lost, annoying person,
	you are wrong, youre wrong, blame yourself, you deserve it, kill yourself, drama queen, taking the piss, bullshit`)

// exonerating turns "your fault" and its like into comfort.
var exonerating = lines(`not your fault, isnt your fault, not your own fault, not at all your fault, never your fault, not really your fault, wasnt your fault, nothing is your fault, you are not wrong, dont blame yourself, do not blame yourself, not stupid, not dumb, not a loser, not crazy, not weak`)

// naming introduces the feeling that the answer sees in the seeker.
var naming = lines(`you feel, you are feeling, youre feeling, you felt, you seem, you sound, you are, youre, your, you must be, you must feel, you look`)

var dismissing = lines(`
	not a big deal, no big deal, not that bad, not so bad, not bad, everyone has, everybody has, its nothing,
	it is nothing, thats nothing, thats life, that is life, life is, all in your head, overreacting, exaggerating,
	too sensitive, others have it worse, could be worse, so what, no reason to, dont see why, calm down, part of life`)

// stock are answers that fit everywhere.
var stock = lines(`
	how can i help, how may i help, how can i assist, can i help you, i am here for you, im here for you, here to help,
	here to listen, everything will be, it will be ok, it will be okay, it will get better, things will get better, dont worry,
	good luck, best of luck, take care, have a good, have a great, have a nice, you are welcome, youre welcome, your welcome,
	i understand, i see, that is good, thats good, thats great, that is great, thats nice, sounds good, thank you,
	thanks for, i am sorry to hear that, im sorry to hear that, so sorry to hear, sorry to hear that, i hope, stay strong,
	be strong, stay positive, how are you, nice to meet you, i know how you feel, i feel you, thats the spirit,
	same here, me too, of course, i agree, anything else, no problem, my pleasure, happy to help, glad to help, time heals, i can understand`)

var closing = lines(`bye, goodbye, good bye, good night, goodnight, thank you, thanks, you are welcome, youre welcome, your welcome, welcome, take care, have a good, have a nice, have a great, my pleasure, see you, good luck`)

var seekerCloses = lines(`bye, goodbye, good bye, good night, thank you, thanks, thank, thx, take care, have a good, have a nice, have a great, talk later`)

// asking are the seeker's requests for advice or facts.
var asking = lines(`
	what can i do, what should i do, what do i do, what could i do, what would you do, how do i, how can i, how should i,
	any advice, any ideas, any idea, any suggestions, any tips, advice, suggest, suggestion, suggestions, recommend, should i, do you think i, what do you think,
	what would you, help me with, tell me what, tell me how, can i try, what else, do you know`)

var questionWords = lines(`what, how, why, when, where, who, which, do you, did you, are you, is it, is there, have you, has, can you, could you, would you, will you, was it, were you, does`)

var firstPerson = lines(`i, im, ive, me, my, we, our, mine, myself, us, id`)

var secondPerson = lines(`you, your, youre`)

var contradicting = lines(`no, not, why`)

var feelingFrame = lines(`
	you feel, you are feeling, youre feeling, you felt, you seem, it seems, seems like, seems that, sounds, you sound, must be, must have, must feel,
	i can see, i can tell, i can hear, i hear, i sense, feeling, feels, feel, you are, youre, frustrating, hard for you, makes you, made you`)

var restatingFrame = lines(`
	so you, so your, so it, so the, so he, so she, so they, you said, you say, you mean, you are saying, youre saying, in other words, if i understand,
	let me, you told, sounds like, it seems, it sounds, you mentioned, what i hear, i hear you, am i right, is that right, right, correct, you feel, you want, you are, your`)

// praising points at strengths or gives courage.
var praising = lines(`
	you can, you are, youre, you will, youll, you have, youve, proud, strong, strength, brave, courage, capable, good job, great job, well done, believe in you, believe,
	i know you, i am sure, im sure, its ok, its okay, it is ok, it is okay, normal, not alone, deserve, understandable, good person, great, good, admire, impressive, amazing, glad, will get, better`)

// general are words of support in general, which name no topic of a chat: those
// of feelings and trouble, and of comfort and advice. It holds their stems.
var general = stemsOf(trouble, happy, consoling, feelingGroups[0].words, feelingGroups[1].words, feelingGroups[2].words,
	feelingGroups[3].words, feelingGroups[4].words)

// inflected says whether a list has a word's stem, with or without the e that an
// ending replaces.
func inflected(list map[string]bool, w string) bool { return list[stem(w)] || list[stem(w)+"e"] }

func stemsOf(sets ...map[string]bool) map[string]bool {
	all := map[string]bool{}
	for _, s := range sets {
		for w := range s {
			all[stem(w)] = true
		}
	}
	return all
}

var consoling = set(`able absolutely accept advice agree alone amazing anytime apologize appreciate area aspect assist
	aware brave breath breathe calm care caring challenge challenging change chat choice chin clear comfort comfortable
	common concern confident consider control cope courage day deal deep describe deserve detail difficult discuss easy
	effort emotion emotional encourage encounter entirely everybody exactly experience explain explore express face fact
	faith fault fine focus forward gentle gladly goal grateful great guess happen happy hard heal healthy hear heart heavy
	helpful helping hope hopeful human hurt idea imagine important improve intense issue journey kind leave life
	listen listening live load long matter mind minute moment month morning move natural nervous nice normal okay
	opportunity option ordinary outcome pain painful particular past patience patient peace perfect person perspective
	place point positive possible power pressure problem process proud question ready reach real reason reassure
	recommend relate relax remember respect rest rough sad safe scary sense sentiment share situation sorry sort
	sound space speak specific step story strength stress stressful strong struggle suggest support supportive sympathize
	talk talking tell tense thought tired together top tough trust truly try turn understand understandable understanding
	unfortunate upset useful valid validate value wait week welcome willing wise wish wonder wonderful word work
	worried worry worth yes world whatever whenever wherever however anyone anybody completely totally definitely
	honestly certainly surely simply deeply extremely incredibly terribly perfectly`)
