package stack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// A damaged database is named, with the remedy, by the check and by a start
// after an end that was not clean.
func TestDamagedDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, options(dir))
	if c, there := stack.CheckDatabase(t.Context(), dir); !there || c.Status != connect.OK {
		t.Errorf("of a running stack: %+v, %v; want ok", c, there)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "temporal.db")
	for _, end := range []string{"-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i += 4096 { // the head of each page but the first
		copy(data[i:], "a disk that is going bad")
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _ := stack.CheckDatabase(t.Context(), dir); c.Status != connect.Fail || !strings.Contains(c.Detail, path+" is damaged") || !strings.Contains(c.Remedy, "mv "+path) {
		t.Errorf("doctor says %+v, want that it is damaged, and the remedy", c)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = stack.Start(t.Context(), options(dir))
	if err == nil || !strings.Contains(err.Error(), path+" is damaged") || !strings.Contains(err.Error(), "finished work is in the store") {
		t.Fatalf("started on it: %v, want an error with the remedy", err)
	}
	oneLine(t, err)
}

// The write-ahead log is synced where something was written since, and only there.
func TestSyncLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "temporal.db")
	sync := func(last time.Time, want bool) {
		t.Helper()
		if did, err := stack.SyncLog(path, last); err != nil || did != want {
			t.Errorf("synced %v, %v; want %v", did, err, want)
		}
	}
	sync(time.Time{}, false) // there is none
	if err := os.WriteFile(path+"-wal", []byte("frames"), 0o600); err != nil {
		t.Fatal(err)
	}
	written, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	sync(time.Time{}, true)
	sync(written.ModTime(), true) // it may have been written since, within a tick of the files' clock
	sync(written.ModTime().Add(time.Minute), false)
	if err := errors.Join(os.Remove(path+"-wal"), os.Mkdir(path+"-wal", 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.SyncLog(path, time.Time{}); err == nil || !strings.Contains(err.Error(), path+"-wal") {
		t.Errorf("of a directory: %v, want an error that names it", err)
	}
}

// Commands that come and go leave nothing open in the stack's process.
func TestNothingStaysOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	start(t, options(dir))
	target := resolve(t, dir)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("needs Linux's /proc: ", err)
		}
		return len(entries)
	}
	command := func() error {
		c, err := connect.Dial(context.Background(), target.Temporal, zerolog.Nop())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = connect.SearchAttributes(context.Background(), c, "default", options(dir).SearchAttributes)
		return err
	}
	if err := command(); err != nil {
		t.Fatal(err)
	}
	before := open()
	for range 10 {
		if err := command(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() error {
		if after := open(); after > before+4 { // a connection of the last may be closing
			return errors.New(strconv.Itoa(after-before) + " descriptors stay open after ten commands")
		}
		return nil
	})
}
