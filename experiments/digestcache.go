package experiments

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// DigestCache remembers the SHA-256 of large files, so that a checkpoint of
// many gigabytes is not read whole each time a run is planned. A file counts as
// unchanged while its path, size, modification time and inode are the same;
// whoever imports it compares the content all the same. Losing the cache costs
// time alone. It is safe for concurrent use, and several processes may share
// the file: the last one's entries win.
type DigestCache struct {
	path string

	mu      sync.Mutex
	entries map[string]cachedDigest
}

// cachedDigest is one file's digest and what says that it is still the same.
type cachedDigest struct {
	Bytes  int64  `json:"bytes"`
	MTime  int64  `json:"mtime_ns"`
	Inode  uint64 `json:"inode"` // 0 where there are none
	SHA256 string `json:"sha256"`
}

// cachedFrom is the size from which on a file's digest is remembered.
const cachedFrom = 1 << 20

// settled is how long a file must have been left alone for its times to prove
// anything: clocks of file systems are coarse.
const settled = 2 * time.Second

// OpenDigestCache reads the cache in a file; one that is absent or unreadable
// is empty.
func OpenDigestCache(path string) *DigestCache {
	return &DigestCache{path: path, entries: readDigests(path)}
}

func readDigests(path string) map[string]cachedDigest {
	entries := map[string]cachedDigest{}
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &entries) != nil || entries == nil {
		return map[string]cachedDigest{}
	}
	return entries
}

// identity is what a file's entry must agree with.
func identity(info fs.FileInfo) cachedDigest {
	return cachedDigest{Bytes: info.Size(), MTime: info.ModTime().UnixNano(), Inode: inode(info)}
}

// lookup finds the digest of an unchanged file, by its absolute path or URI; "" where there is none.
func (c *DigestCache) lookup(key string, info fs.FileInfo) string {
	if c == nil {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, want := c.entries[key], identity(info)
	want.SHA256 = e.SHA256
	if e != want {
		return ""
	}
	return e.SHA256
}

// store remembers a digest. before and after are what the file was when reading
// began and ended, began is when: what changed in between or just before is not
// remembered.
func (c *DigestCache) store(key, sha256 string, before, after fs.FileInfo, began time.Time) error {
	if c == nil || after.Size() < cachedFrom || identity(before) != identity(after) || began.Sub(after.ModTime()) < settled {
		return nil
	}
	entry := identity(after)
	entry.SHA256 = sha256
	c.mu.Lock()
	defer c.mu.Unlock()
	merged := readDigests(c.path) // what other processes added
	maps.Copy(merged, c.entries)
	merged[key] = entry
	c.entries = merged
	return c.save()
}

// save replaces the file, whole or not at all.
func (c *DigestCache) save() error {
	data, err := json.Marshal(c.entries)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(c.path), ".digests-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), c.path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
