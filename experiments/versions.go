package experiments

// The code version of each kind. A version is part of every fingerprint of its
// kind, so raising it makes finished results of that kind, and of all that
// follows, be computed anew. Raise it when the same parameters and inputs would
// now give other bytes in the artifact: a fixed bug, another default inside the
// kernel, another file layout. Leave it for what changes no byte: speed,
// logging, checkpoint cadence, refactoring.
const (
	versionCorpus    = 1 // reading, cleaning or splitting dialogues
	versionBase      = 2 // tokenizer training, initial weights, pretraining, import
	versionSFT       = 2 // prompts, labels, optimizer, order of the data, adapter layout
	versionMine      = 4 // sampling, routing, the offline judge's labels, pair layout
	versionReference = 2 // log-probabilities and their layout
	versionDPO       = 2 // losses, optimizer, order of the pairs, adapter layout
	versionGenerate  = 2 // decoding, parsing of strategies, prediction layout
	versionScore     = 1 // automatic metrics
	versionJudge     = 4 // the judge's rules or prompts
	versionBias      = 1 // preference bias and strategy F1
	versionPrefer    = 2 // the judge's rules or prompt for preferences, how they are counted
	versionQuality   = 2 // the judge's rules or prompts for scores, which pairs are drawn
	versionReport    = 4 // anything a reader of the report would see
)

// Version is the current code version of a kind; 0 for an unknown kind.
func Version(k Kind) int {
	switch k {
	case KindCorpus:
		return versionCorpus
	case KindBase:
		return versionBase
	case KindSFT:
		return versionSFT
	case KindMine:
		return versionMine
	case KindReference:
		return versionReference
	case KindDPO:
		return versionDPO
	case KindGenerate:
		return versionGenerate
	case KindScore:
		return versionScore
	case KindJudge:
		return versionJudge
	case KindBias:
		return versionBias
	case KindPrefer:
		return versionPrefer
	case KindQuality:
		return versionQuality
	case KindReport:
		return versionReport
	}
	return 0
}
