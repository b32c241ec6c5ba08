//go:build cgo && !amd64 && !arm64

#include "half.h"
#include "half_none.inc"
