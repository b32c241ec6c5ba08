package judge

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"sync"

	"github.com/esclab/esclab/esc"
)

const (
	idfBuckets   = 1 << 15
	labelBuckets = 1 << 15
	idfUnit      = 1.0 / 16
)

// tables are the judge's fitted numbers, in the layout of fitted.bin: little
// endian, in this order, without padding. TestFit makes them, and says of what.
type tables struct {
	// IDF is the inverse document frequency of stems and bigrams, by bucket,
	// in units of idfUnit; a document is an utterance.
	IDF [idfBuckets]uint8
	// Labels decides about a class where its sum reaches 0.
	Labels [esc.NumPsyErrors]struct {
		Dense  [denseFeatures]float32
		Scale  float32 // of Hashed
		Hashed [labelBuckets]int8
	}
	Context, Response tower
	Coherence         [coherenceFeatures]float32
	Substance         [substanceFeatures]float32
}

//go:embed fitted.bin
var fittedBytes []byte

// fitted reads the program's tables.
var fitted = sync.OnceValue(func() *tables {
	t := new(tables)
	if err := binary.Read(bytes.NewReader(fittedBytes), binary.LittleEndian, t); err != nil {
		panic("judge: fitted.bin does not have the layout of its tables: " + err.Error())
	}
	return t
})

// idf of a stem or bigram, in nats.
func (t *tables) idf(hash uint32) float64 { return float64(t.IDF[hash%idfBuckets]) * idfUnit }

// margin is how clearly a class holds, by features as of labelFeatures.
func (t *tables) margin(class esc.PsyError, x featured) float64 {
	weights := &t.Labels[class]
	sum := dot(weights.Dense[:], x.dense)
	text := 0.0
	for _, list := range [][]weighted{x.hashed, x.beside} {
		for _, f := range list {
			text += float64(f.value * float64(weights.Hashed[f.hash%labelBuckets]))
		}
	}
	return sum + float64(text*float64(weights.Scale))
}
