//go:build cgo

// Package crash makes a crash of the process (a panic that nobody recovers, a
// fatal error of the Go runtime, a fault or an abort in C) one line on standard
// error and an exit code of its own. The stacks of all goroutines, thousands of
// lines, go into a file.
package crash

/*
void crash_say(const char *text, int length, int code, int fd);
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/esclab/esclab/internal/racing"
)

// overrideWrite is the runtime's hook on what it writes itself, which is nothing
// in a process that is well. debug.SetCrashOutput only makes a copy: the whole
// would still end up on the terminal.
//
//go:linkname overrideWrite runtime.overrideWrite
var overrideWrite func(fd uintptr, p unsafe.Pointer, n int32) int32

// file is the descriptor of the crash file; the runtime has but one standard error.
var file atomic.Uintptr

// toFile runs on whatever stack the runtime crashes on.
//
//go:nosplit
//go:norace
func toFile(fd uintptr, p unsafe.Pointer, n int32) int32 {
	if at := file.Load(); at != 0 && fd == uintptr(syscall.Stderr) {
		fd = at
	}
	written, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(p), uintptr(n))
	if errno != 0 {
		return -int32(errno)
	}
	return int32(written)
}

// Report begins: a crash from now on writes its stacks into f, says line on
// standard error, and ends the process with ExitCode. f may be closed. In a
// process whose environment debugs the runtime (GODEBUG, GOTRACEBACK), the runtime
// says on standard error what it says, and f gets a copy of a crash's part; so it is
// under the race detector, which handles signals by itself.
func Report(f *os.File, line string) error {
	if racing.Enabled || os.Getenv("GODEBUG") != "" || os.Getenv("GOTRACEBACK") != "" {
		return debug.SetCrashOutput(f, debug.CrashOptions{})
	}
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("crash file: %w", err)
	}
	syscall.CloseOnExec(fd)
	if old := file.Swap(uintptr(fd)); old != 0 {
		err = syscall.Close(int(old))
	}
	overrideWrite = toFile
	// With "crash" the runtime ends by SIGABRT, as C's abort does, where crash.c
	// waits for it.
	debug.SetTraceback("crash")
	text := []byte(line + "\n")
	C.crash_say((*C.char)(unsafe.Pointer(&text[0])), C.int(len(text)), ExitCode, C.int(fd))
	return err
}

// End is the end of Report: the process ends by itself.
func End() error {
	err := debug.SetCrashOutput(nil, debug.CrashOptions{})
	C.crash_say(nil, 0, 0, 0)
	if old := file.Swap(0); old != 0 {
		err = errors.Join(err, syscall.Close(int(old)))
	}
	return err
}
