package judge

import "github.com/esclab/esclab/esc"

// weights of the features, by class and in the order of featureNames; the sum
// decides at 0. They are fitted, with -update, by TestWeights to the labels that
// an LLM gave to FailedESConv.
var weights = [esc.NumPsyErrors][]float64{
	esc.StrategyMismatch: {
		-2.102, // one
		-0.174, // acknowledges
		-0.377, // directs
		0.639,  // cheers
		0.424,  // presses
		-0.248, // hostile
		0.324,  // dismisses
		-0.076, // stock phrase
		0.174,  // asks
		-0.078, // asked for advice
		-0.729, // closing
		-0.335, // opening
		-0.012, // said before
		-0.230, // distress
		-0.074, // recent distress
		0.169,  // feelings
		0.069,  // takes up a word
		0.064,  // takes up two words
		0.207,  // words > 3
		0.219,  // words > 6
		-0.023, // words > 9
		-0.021, // words > 13
		0.282,  // words > 18
		-0.013, // words > 26
		0.182,  // content > 0
		0.283,  // content > 1
		0.010,  // content > 3
		-0.167, // content > 6
		0.780,  // answers > 0
		-0.040, // answers > 1
		0.322,  // answers > 3
		0.123,  // answers > 7
		-0.313, // seeker short
		-0.070, // seeker long
		0.474,  // points strategy mismatch
		-0.147, // points lack of empathy
		0.193,  // points early emotion shift
		-0.027, // points template response
		-0.348, // points emotion misread
		0.307,  // strategy Question
		0.165,  // strategy Restatement
		0.103,  // strategy Reflection
		0.501,  // strategy Self-disclosure
		0.258,  // strategy Affirmation
		-0.223, // strategy Suggestions
		-0.254, // strategy Information
		-0.856, // strategy Others
	},
	esc.LackOfEmpathy: {
		1.297,  // one
		-0.318, // acknowledges
		0.002,  // directs
		-1.049, // cheers
		-0.192, // presses
		-0.255, // hostile
		-0.178, // dismisses
		-0.062, // stock phrase
		-0.345, // asks
		-0.112, // asked for advice
		-0.510, // closing
		-0.382, // opening
		-0.512, // said before
		-0.083, // distress
		-0.044, // recent distress
		-0.748, // feelings
		-0.203, // takes up a word
		0.192,  // takes up two words
		-0.259, // words > 3
		-0.226, // words > 6
		-0.542, // words > 9
		-0.159, // words > 13
		-0.155, // words > 18
		-0.235, // words > 26
		-0.368, // content > 0
		-0.343, // content > 1
		0.029,  // content > 3
		-0.233, // content > 6
		-0.599, // answers > 0
		-0.075, // answers > 1
		-0.047, // answers > 3
		0.231,  // answers > 7
		0.004,  // seeker short
		0.133,  // seeker long
		-0.142, // points strategy mismatch
		0.190,  // points lack of empathy
		-0.252, // points early emotion shift
		0.226,  // points template response
		-0.130, // points emotion misread
		-0.045, // strategy Question
		-0.153, // strategy Restatement
		-0.350, // strategy Reflection
		-0.601, // strategy Self-disclosure
		-0.161, // strategy Affirmation
		-0.378, // strategy Suggestions
		0.826,  // strategy Information
		0.862,  // strategy Others
	},
	esc.EarlyEmotionShift: {
		-4.410, // one
		0.745,  // acknowledges
		0.287,  // directs
		0.005,  // cheers
		-0.268, // presses
		-0.411, // hostile
		-0.267, // dismisses
		-0.322, // stock phrase
		0.421,  // asks
		0.599,  // asked for advice
		-0.284, // closing
		-0.483, // opening
		0.021,  // said before
		0.052,  // distress
		-0.284, // recent distress
		0.033,  // feelings
		-0.253, // takes up a word
		-0.319, // takes up two words
		0.680,  // words > 3
		0.198,  // words > 6
		0.426,  // words > 9
		-0.064, // words > 13
		-0.394, // words > 18
		0.258,  // words > 26
		0.305,  // content > 0
		0.299,  // content > 1
		0.185,  // content > 3
		0.164,  // content > 6
		0.604,  // answers > 0
		0.767,  // answers > 1
		-0.031, // answers > 3
		-0.523, // answers > 7
		0.523,  // seeker short
		-0.085, // seeker long
		-0.115, // points strategy mismatch
		0.172,  // points lack of empathy
		0.758,  // points early emotion shift
		-0.649, // points template response
		-0.491, // points emotion misread
		0.197,  // strategy Question
		-0.812, // strategy Restatement
		-0.444, // strategy Reflection
		-0.247, // strategy Self-disclosure
		-0.132, // strategy Affirmation
		0.813,  // strategy Suggestions
		0.420,  // strategy Information
		0.206,  // strategy Others
	},
	esc.TemplateResponse: {
		-1.818, // one
		-0.053, // acknowledges
		0.229,  // directs
		-0.157, // cheers
		-0.086, // presses
		-0.198, // hostile
		0.106,  // dismisses
		0.278,  // stock phrase
		-1.003, // asks
		-0.007, // asked for advice
		0.741,  // closing
		1.071,  // opening
		0.422,  // said before
		0.124,  // distress
		0.259,  // recent distress
		0.248,  // feelings
		0.210,  // takes up a word
		-0.208, // takes up two words
		0.018,  // words > 3
		0.103,  // words > 6
		0.157,  // words > 9
		-0.143, // words > 13
		-0.269, // words > 18
		-0.186, // words > 26
		0.214,  // content > 0
		-0.215, // content > 1
		-0.583, // content > 3
		-0.251, // content > 6
		0.451,  // answers > 0
		-0.323, // answers > 1
		-0.293, // answers > 3
		0.619,  // answers > 7
		0.121,  // seeker short
		0.394,  // seeker long
		-0.023, // points strategy mismatch
		0.152,  // points lack of empathy
		-0.457, // points early emotion shift
		0.317,  // points template response
		-0.093, // points emotion misread
		-0.037, // strategy Question
		0.328,  // strategy Restatement
		0.338,  // strategy Reflection
		0.260,  // strategy Self-disclosure
		0.415,  // strategy Affirmation
		-0.573, // strategy Suggestions
		-0.575, // strategy Information
		-0.155, // strategy Others
	},
	esc.EmotionMisread: {
		-0.423, // one
		-0.042, // acknowledges
		-0.566, // directs
		0.045,  // cheers
		0.659,  // presses
		0.572,  // hostile
		0.118,  // dismisses
		-0.794, // stock phrase
		0.098,  // asks
		-0.098, // asked for advice
		-0.226, // closing
		-0.376, // opening
		-0.284, // said before
		-0.138, // distress
		0.281,  // recent distress
		-0.323, // feelings
		0.082,  // takes up a word
		0.109,  // takes up two words
		0.545,  // words > 3
		-0.362, // words > 6
		-0.095, // words > 9
		0.249,  // words > 13
		-0.323, // words > 18
		0.047,  // words > 26
		0.324,  // content > 0
		-0.150, // content > 1
		-0.317, // content > 3
		-0.304, // content > 6
		0.592,  // answers > 0
		0.042,  // answers > 1
		-0.214, // answers > 3
		-0.205, // answers > 7
		-0.400, // seeker short
		0.036,  // seeker long
		0.333,  // points strategy mismatch
		-0.213, // points lack of empathy
		0.140,  // points early emotion shift
		0.147,  // points template response
		0.731,  // points emotion misread
		-0.256, // strategy Question
		0.718,  // strategy Restatement
		0.898,  // strategy Reflection
		-0.372, // strategy Self-disclosure
		0.068,  // strategy Affirmation
		-0.455, // strategy Suggestions
		-0.139, // strategy Information
		-0.461, // strategy Others
	},
}
