package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// blobLock is the right to fetch, verify or remove the copy of one blob among all
// processes that share the cache; the kernel releases it when its process ends. Its
// file says which copy was verified last, and its time of writing when the copy was
// last asked for. It stays when the copy goes: a lock that is removed would be held
// twice.
type blobLock struct{ *os.File }

func (s *Store) locks() string { return filepath.Join(s.cache, "locks") }

// lockWait is how often a lock that another holds is tried.
const lockWait = 50 * time.Millisecond

// lockBlob waits for the lock of a blob, by its digest.
func (s *Store) lockBlob(ctx context.Context, digest string) (blobLock, error) {
	for {
		lock, held, err := s.tryLock(digest)
		if err != nil || !held {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return blobLock{}, fmt.Errorf("wait for another process that fetches it: %w", ctx.Err())
		case <-time.After(lockWait):
		}
	}
}

// tryLock takes the lock of a blob unless it is held.
func (s *Store) tryLock(digest string) (lock blobLock, held bool, err error) {
	f, err := os.OpenFile(filepath.Join(s.locks(), digest), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return blobLock{}, false, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return blobLock{}, true, nil
		}
		return blobLock{}, false, fmt.Errorf("lock %s: %w: the file system must support flock", f.Name(), err)
	}
	return blobLock{f}, false, nil
}

// identityOf says by what a file is known to be the one that was verified; false
// where there is none.
func identityOf(path string) (string, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", false
	}
	return fmt.Sprintf("%d %d %d", of.Ino, info.Size(), info.ModTime().UnixNano()), true
}

// noted is the identity of the copy that was verified last; "" where none was.
func (l blobLock) noted() string {
	text, err := io.ReadAll(io.NewSectionReader(l, 0, 1<<10))
	if err != nil {
		return ""
	}
	return string(text)
}

// note keeps the identity of a copy that was verified, and that it was asked for now.
func (l blobLock) note(identity string) error {
	if err := l.Truncate(0); err != nil {
		return err
	}
	if _, err := l.WriteAt([]byte(identity), 0); err != nil {
		return err
	}
	return os.Chtimes(l.Name(), time.Time{}, time.Now())
}

// usedLately is how long a copy stays after it was asked for, whatever the bound of
// the cache: who has its path may open it a while later.
const usedLately = 24 * time.Hour

// evict removes the copies that were asked for longest ago while all of them together
// are above the bound.
func (s *Store) evict(ctx context.Context, keep string) error {
	if s.cacheBytes <= 0 {
		return nil
	}
	type copied struct {
		digest string
		bytes  int64
		used   time.Time
	}
	var all []copied
	total := int64(0)
	err := filepath.WalkDir(filepath.Join(s.cache, "sha256"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return errors.Join(ctx.Err(), ignoreGone(err))
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		one := copied{digest: d.Name(), bytes: info.Size()}
		if lock, err := os.Stat(filepath.Join(s.locks(), d.Name())); err == nil { // else of an earlier version: long ago
			one.used = lock.ModTime()
		}
		total += one.bytes
		all = append(all, one)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	slices.SortFunc(all, func(a, b copied) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		return strings.Compare(a.digest, b.digest)
	})
	for _, one := range all {
		if total <= s.cacheBytes || s.now().Sub(one.used) < usedLately {
			return nil
		}
		if one.digest == keep {
			continue
		}
		lock, held, err := s.tryLock(one.digest)
		if err != nil {
			return err
		}
		if held { // somebody asks for it now
			continue
		}
		err = os.Remove(s.cached(one.digest))
		lock.Close()
		if ignoreGone(err) != nil {
			return fmt.Errorf("cache directory: %w", err)
		}
		total -= one.bytes
	}
	return nil
}

// ignoreGone drops the error that a file is not there: another process was quicker.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
