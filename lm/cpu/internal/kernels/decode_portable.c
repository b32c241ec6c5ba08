//go:build cgo

#include "decode.h"

#define DECODE decode_portable
#define WIDTH 4           // floats in a vector
#define DECODE_ROWS 4     // rows and vectors of a product's tile
#define DECODE_VECTORS 2
#define DECODE_CHAINS 1   // sums a score is added from
#define DECODE_AHEAD 2048 // floats of weights fetched ahead

#include "vec.inc"
#include "decode.inc"
