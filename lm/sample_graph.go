package lm

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph-building file
)

// The sampler of sample.go as a graph, so that of a decoding step nothing but tokens crosses to the host. Weights and
// their sums are float64 there too, and the random numbers are the host's. Sums run in another order and exponentials
// may differ in their last bit, so that where a random number, or top-p, falls within about 1e-13 of a border between
// two tokens the other one may be drawn.
//
// Shapes: S slots, V tokens. Logits cannot be sorted cheaply, so borders are found bit by bit (threshold).

// drawing is what sampled tokens depend on beside their logits. The numbers are inputs and no constants, by whose
// reciprocals XLA would multiply where sample.go divides.
type drawing struct {
	uniform     *Node // [S, 1], float64: in [0, 1)
	temperature *Node // scalars, float64
	topP        *Node
	penalty     *Node
	seen        *Node // [S, V], bool: the tokens that a repetition's penalty makes less likely; nil without one
}

// draw is a token of each slot, [S] int32, from logits [S, V].
func (d drawing) draw(c *GenerateConfig, logits *Node) *Node {
	g, v := logits.Graph(), logits.Shape().Dimensions[1]
	if d.seen != nil {
		p := ConvertDType(d.penalty, dtypes.Float32)
		less := Where(LessThan(logits, ScalarZero(g, logits.DType())), Mul(logits, p), Div(logits, p))
		logits = Where(d.seen, less, logits)
	}
	number := Equal(logits, logits)
	logits = Where(number, logits, Infinity(g, logits.DType(), -1))
	if c.Temperature == 0 {
		return ArgMax(logits, -1, dtypes.Int32)
	}
	one := func(x *Node) *Node { return ConvertDType(x, dtypes.Float64) } // 1 where x is true, 0 elsewhere
	rank := order(logits)                                                 // [S, V]
	zero := ScalarZero(g, dtypes.Float64)
	highest := ReduceAndKeep(logits, ReduceMax, -1)
	weights := Exp(Div(ConvertDType(Sub(logits, highest), dtypes.Float64), d.temperature))
	weights = Where(GreaterOrEqual(logits, highest), OnesLike(weights), weights) // the highest itself, infinite ones too
	weights = Where(number, weights, zero)
	if c.TopK > 0 && c.TopK < v {
		least := threshold(rank, one(number), Const(g, float64(c.TopK)), GreaterOrEqual, 32)
		weights = Where(GreaterOrEqual(rank, least), weights, zero)
	}
	// Of what follows the keys are places from the last token's to the first's: sums go from the first token on.
	place := Sub(Const(g, uint32(v-1)), Iota(g, shapes.Make(dtypes.Uint32, logits.Shape().Dimensions...), 1))
	bits := 1
	for v > 1<<bits {
		bits++
	}
	sum := func(x *Node) *Node { return ReduceAndKeep(x, ReduceSum, -1) } // [S, 1]
	if c.TopP < 1 {
		wanted := Mul(sum(weights), d.topP)
		least := threshold(rank, weights, wanted, GreaterOrEqual, 32)
		above, equal := GreaterThan(rank, least), Equal(rank, least)
		each := ReduceAndKeep(Where(equal, weights, zero), ReduceMax, -1)
		ties := Ceil(Div(Sub(wanted, sum(Where(above, weights, zero))), each)) // that the nucleus takes, the first ones
		last := threshold(place, one(equal), ties, GreaterOrEqual, bits)
		weights = Where(LogicalOr(above, LogicalAnd(equal, GreaterOrEqual(place, last))), weights, zero)
	}
	mass := sum(weights)
	target := Min(Mul(d.uniform, mass), MulScalar(mass, 1-1e-12)) // below the mass, however it was rounded
	drawn := Sub(Const(g, uint32(v-1)), threshold(place, weights, target, GreaterThan, bits))
	return ConvertDType(Squeeze(drawn, -1), dtypes.Int32)
}

// order maps float32 x to uint32 of the same order; 0 and -0 are one.
func order(x *Node) *Node {
	g := x.Graph()
	x = Where(Equal(x, ScalarZero(g, x.DType())), ScalarZero(g, x.DType()), x)
	bits := Bitcast(x, dtypes.Uint32)
	sign := Const(g, uint32(1<<31))
	negative := GreaterOrEqual(bits, sign)
	return Where(negative, BitwiseNot(bits), BitwiseOr(bits, sign))
}

// threshold is the largest number below 2^bits, [S, 1], such that the sum of the weights [S, V] of the keys [S, V]
// (uint32) from that number on meets what is wanted, [S, 1] or a scalar: 0 where not even that of all does.
func threshold(keys, weights, wanted *Node, meets func(sum, wanted *Node) *Node, bits int) *Node {
	g, zero := keys.Graph(), ScalarZero(keys.Graph(), weights.DType())
	number := Zeros(g, shapes.Make(dtypes.Uint32, keys.Shape().Dimensions[0], 1))
	for bit := bits - 1; bit >= 0; bit-- { // written out: go-xla has no sums within a loop
		higher := BitwiseOr(number, Const(g, uint32(1)<<bit))
		sum := ReduceAndKeep(Where(GreaterOrEqual(keys, higher), weights, zero), ReduceSum, -1)
		number = Where(meets(sum, wanted), higher, number)
	}
	return number
}
