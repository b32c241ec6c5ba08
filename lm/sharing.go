package lm

// Sharing counts what prefix trees save on a data set.
type Sharing struct {
	Tokens   int `json:"tokens"`   // computed: each shared prefix once
	Unpacked int `json:"unpacked"` // of the sequences as they are
}

// Saved is how many times fewer tokens are computed.
func (s Sharing) Saved() float64 { return float64(s.Unpacked) / float64(s.Tokens) }

// SharingOf counts the tokens of examples as one tree a group, however long: the most that packing can save. A
// batch's border that cuts a group, and a limit of a row, cost some of it (StepMetrics has what a training computed).
// The last token of a sequence, which predicts nothing, is not computed, and not counted on either side.
func SharingOf(examples []Example) Sharing {
	var s Sharing
	for _, indices := range groups(examples) {
		for _, t := range growTrees(examples, indices, true, int(^uint(0)>>1)) {
			s.Tokens += len(t.tokens)
		}
		for _, i := range indices {
			for j := range examples[i].Sequences {
				s.Unpacked += examples[i].Sequences[j].end()
			}
		}
	}
	return s
}
