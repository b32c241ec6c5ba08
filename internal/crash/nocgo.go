//go:build !cgo

// Package crash keeps a copy of what a crash says in a file. In a build with cgo it
// keeps it off the terminal, too.
package crash

import (
	"os"
	"runtime/debug"
)

// Report begins: a crash from now on is written into f, too. f may be closed.
func Report(f *os.File, _ string) error { return debug.SetCrashOutput(f, debug.CrashOptions{}) }

// End is the end of Report: the process ends by itself.
func End() error { return debug.SetCrashOutput(nil, debug.CrashOptions{}) }
