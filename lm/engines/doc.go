// Package engines finds the shared libraries that engines load, and installs the one that may be fetched: ONNX
// Runtime. It loads nothing itself.
//
// An installed library lives in a directory of esclab's data directory, beside a manifest with its version, origin
// and SHA-256, which is compared whenever the library is opened. Everything is written whole or not at all.
package engines
