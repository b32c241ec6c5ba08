// Package datadir is the data directory of the embedded stack: its files, its
// lock, and the description of the stack that is running on it.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Files and directories below the data directory.
const (
	LockFile        = "lock"           // flock held while a stack runs; holds its PID
	InfoFile        = "stack.json"     // Info, present while a stack is ready
	KeyFile         = "temporal-key"   // what Temporal's frontend demands, mode 0600
	CredentialsFile = "s3-credentials" // AWS shared credentials format, mode 0600
	DatabaseFile    = "temporal.db"    // SQLite: histories and visibility
	ObjectsDir      = "s3"             // one directory per bucket
	SidecarDir      = "s3-metadata"    // object metadata where the file system has no extended attributes
	LogDir          = "logs"           //
)

// ErrNotRunning is returned where no stack runs on a data directory.
var ErrNotRunning = errors.New("no stack is running")

// Info describes a stack that is ready. It holds no secret.
type Info struct {
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Temporal  string    `json:"temporal,omitempty"`  // host:port of the frontend
	Namespace string    `json:"namespace,omitempty"` //
	KeyFile   string    `json:"key_file,omitempty"`  // with the frontend's key; a stack of an older version demands none
	UI        string    `json:"ui,omitempty"`        // URL
	S3        *S3       `json:"s3,omitempty"`        //
}

// S3 describes the embedded store.
type S3 struct {
	Endpoint        string `json:"endpoint"`
	Region          string `json:"region"`
	Bucket          string `json:"bucket"`
	CredentialsFile string `json:"credentials_file"`
}

// InUseError says that another process runs a stack on the data directory.
type InUseError struct {
	Dir string
	PID int
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("data directory %s is in use by process %d: use its stack, stop it (kill %d), or set ESCLAB_DATA_DIR to another directory",
		e.Dir, e.PID, e.PID)
}

// Lock is the exclusive right to run a stack on a data directory. The kernel
// releases it when the process ends, however it ends.
type Lock struct {
	// fd rather than an *os.File: its finalizer would close it, and so give
	// the lock back, once a program drops its last reference to the stack
	// while the servers run on.
	fd int
	// Predecessor is the PID of a process that ended without releasing the
	// directory, 0 if none.
	Predecessor int
}

// Acquire takes the lock of dir, or returns an *InUseError.
func Acquire(dir string) (*Lock, error) {
	path := filepath.Join(dir, LockFile)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file %s: %w", path, err)
	}
	// A probe of Running holds the lock for microseconds: outlast it.
	for attempt := 0; ; attempt++ {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil || attempt == 20 || !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &InUseError{Dir: dir, PID: readPID(path)}
		}
		return nil, fmt.Errorf("lock %s: %w: the file system must support flock", path, err)
	}
	l := &Lock{fd: fd, Predecessor: readPID(path)}
	// What a dead predecessor left behind describes servers that are gone.
	if err := os.Remove(filepath.Join(dir, InfoFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		unix.Close(fd)
		return nil, fmt.Errorf("stale description: %w", err)
	}
	if err := l.writePID(os.Getpid()); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return l, nil
}

// Release gives the lock back and marks the stop as a clean one.
func (l *Lock) Release() error {
	return errors.Join(l.writePID(0), unix.Close(l.fd))
}

func (l *Lock) writePID(pid int) error {
	text := ""
	if pid > 0 {
		text = strconv.Itoa(pid) + "\n"
	}
	if err := unix.Ftruncate(l.fd, 0); err != nil {
		return err
	}
	_, err := unix.Pwrite(l.fd, []byte(text), 0)
	return err
}

// Running returns the PID of the process that holds the lock of dir, 0 if none
// does.
func Running(dir string) (pid int, err error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("data directory: %w", err)
	}
	defer f.Close()
	if err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return max(readPID(path), 1), nil
	}
	if err != nil {
		return 0, fmt.Errorf("lock %s: %w", path, err)
	}
	return 0, nil
}

// Stopped tells whether a process lives and a signal has stopped it. Where there is
// no /proc, it never is.
func Stopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// "1234 (name) T …": the name may hold anything.
	_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	return strings.HasPrefix(after, "T") || strings.HasPrefix(after, "t")
}

func readPID(path string) int {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// Read returns the description of the stack that is ready on dir.
func Read(dir string) (*Info, error) {
	data, err := os.ReadFile(filepath.Join(dir, InfoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	var info Info
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, InfoFile), err)
	}
	return &info, nil
}

// Publish makes info what Read returns, atomically.
func Publish(dir string, info *Info) error {
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, InfoFile), append(data, '\n'))
}

// Withdraw removes the description.
func Withdraw(dir string) error {
	if err := os.Remove(filepath.Join(dir, InfoFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// WriteFile writes a file of mode 0600 so that a reader, or a crash, sees all
// of it or nothing.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// Rename moves a file within its directory, durably: the file's content is on
// disk before it takes its new name, and the name before Rename returns.
func Rename(from, to string) error {
	if err := Sync(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return Sync(filepath.Dir(to))
}

// Sync writes a file or directory to disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Prepare creates dir with mode 0700, or takes one that exists: it must be
// writable, and others must be kept out. An empty directory, and one that a
// stack has used before, are closed to others; any other is refused, since
// its mode was someone's decision.
func Prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w: set ESCLAB_DATA_DIR to a directory that you may write", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		ours, err := emptyOrOurs(dir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if !ours {
			return fmt.Errorf("data directory %s has mode %04o and holds other files: chmod 700 it, or set ESCLAB_DATA_DIR to a directory of its own", dir, mode)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("data directory %s is open to others (mode %04o): %w: set ESCLAB_DATA_DIR to a directory of your own", dir, mode, err)
		}
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("data directory %s is not writable (%w): change its owner, or set ESCLAB_DATA_DIR to a directory that you may write", dir, errors.Unwrap(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

func emptyOrOurs(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		return err == nil, err
	}
	_, err = os.Stat(filepath.Join(dir, LockFile))
	return err == nil, nil
}
