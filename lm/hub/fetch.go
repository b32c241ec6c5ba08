package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fetch makes sure that a file is in the cache, whole, and that the snapshot links to it. It returns how many bytes
// came over the network.
func (c *Client) fetch(ctx context.Context, repo Repo, commit, root string, f file) (int64, error) {
	blob := filepath.Join(root, "blobs", f.blob)
	locks := filepath.Join(c.Cache, ".locks", filepath.Base(root))
	for _, dir := range []string{filepath.Dir(blob), locks} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
	}
	unlock, err := c.lock(ctx, filepath.Join(locks, f.blob+".lock"), f.name)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var came int64
	if _, err := os.Stat(blob); errors.Is(err, fs.ErrNotExist) {
		if came, err = c.download(ctx, repo, commit, blob, f); err != nil {
			return came, err
		}
	} else if err != nil {
		return 0, err
	}
	return came, link(filepath.Join(root, "snapshots", commit), blob, f.name)
}

// link makes the snapshot's link to a blob, relative, so that the cache can be moved.
func link(snapshot, blob, name string) error {
	pointer := filepath.Join(snapshot, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(pointer), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(pointer); err == nil {
		return nil // the commit's, and so the same
	}
	target, err := filepath.Rel(filepath.Dir(pointer), blob)
	if err != nil {
		return err
	}
	if err := os.Remove(pointer); err != nil && !errors.Is(err, fs.ErrNotExist) { // a link to a blob that is gone
		return err
	}
	return os.Symlink(target, pointer)
}

// download fetches a blob into its place, by way of a part that a later call goes on with.
func (c *Client) download(ctx context.Context, repo Repo, commit, blob string, f file) (came int64, err error) {
	part := blob + ".incomplete" // as huggingface_hub names it
	address := c.Endpoint + "/" + repo.Name + "/resolve/" + commit + "/" + (&url.URL{Path: f.name}).EscapedPath()
	began, restarted := int64(0), false
	if info, err := os.Stat(part); err == nil {
		began = info.Size()
	}
	err = c.tries(ctx, func() (bool, error) {
		n, err := c.more(ctx, address, part, repo, f)
		came += n
		if err != nil {
			return n > 0, err
		}
		if err = verify(part, f); err == nil {
			return true, nil
		}
		if removeErr := os.Remove(part); removeErr != nil {
			return false, permanent(errors.Join(err, removeErr))
		}
		if began > 0 && !restarted { // the part may have been another file's, or torn
			restarted = true
			return true, err
		}
		return false, permanent(err)
	})
	if err != nil {
		return came, err
	}
	return came, os.Rename(part, blob)
}

// more appends to a part what is missing of a file, or what comes before the connection breaks.
func (c *Client) more(ctx context.Context, address, part string, repo Repo, f file) (came int64, err error) {
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return 0, permanent(err)
	}
	defer func() {
		if closeErr := out.Close(); err == nil && closeErr != nil {
			err = permanent(closeErr)
		}
	}()
	have, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, permanent(err)
	}
	if f.size > 0 && have >= f.size { // whole, or another's: its hash tells
		return 0, nil
	}
	response, err := c.ask(ctx, address, have)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }() // only read
	switch {
	case response.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return 0, nil // nothing is missing, or the part is another's: its hash tells
	case response.StatusCode == http.StatusPartialContent && strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case response.StatusCode == http.StatusOK: // the server knows no ranges
		if have, err = 0, errors.Join(out.Truncate(0), seekStart(out)); err != nil {
			return 0, permanent(err)
		}
	case response.StatusCode == http.StatusPartialContent:
		return 0, permanent(fmt.Errorf("the server answers with the range %q, from %d on was asked for", response.Header.Get("Content-Range"), have))
	default:
		return 0, c.refusal(response, repo)
	}
	w := &counted{w: out, report: func(n int64) { c.report(f, have+n) }}
	_, err = io.Copy(w, response.Body)
	c.report(f, have+w.n)
	switch {
	case w.err != nil:
		return w.n, permanent(fmt.Errorf("%w; what is there stays: make room and call again", w.err))
	case err != nil:
		return w.n, fmt.Errorf("the connection broke after %d bytes: %w", have+w.n, err)
	case f.size > 0 && have+w.n < f.size: // without a Content-Length an end says nothing
		return w.n, fmt.Errorf("the connection ended after %d bytes of %d", have+w.n, f.size)
	}
	return w.n, nil
}

func seekStart(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func (c *Client) report(f file, done int64) {
	if c.Progress != nil {
		c.Progress(f.name, done, f.size)
	}
}

// counted counts what is written, keeps the writer's own error apart from the reader's, and reports now and then.
type counted struct {
	w      io.Writer
	n      int64
	err    error
	report func(n int64)
	last   time.Time
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	if time.Since(c.last) > 200*time.Millisecond {
		c.last = time.Now()
		c.report(c.n)
	}
	return n, err
}

// verify compares a file with its blob's name: a SHA-256, or git's SHA-1 of a blob.
func verify(path string, f file) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	var h hash.Hash
	if len(f.blob) == 64 {
		h = sha256.New()
	} else {
		h = sha1.New()
		fmt.Fprintf(h, "blob %d\x00", info.Size())
	}
	if _, err := io.Copy(h, in); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.blob {
		return fmt.Errorf("what came has the hash %s, the hub states %s: it is damaged, or not the file", got, f.blob)
	}
	return nil
}

// room says whether the file system has room for what is missing.
func (c *Client) room(root string, files []file) error {
	var missing int64
	for _, f := range files {
		blob := filepath.Join(root, "blobs", f.blob)
		if _, err := os.Stat(blob); err == nil {
			continue
		}
		missing += f.size
		if part, err := os.Stat(blob + ".incomplete"); err == nil {
			missing -= min(part.Size(), f.size)
		}
	}
	if missing == 0 {
		return nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	free := c.free
	if free == nil {
		free = freeBytes
	}
	if have, err := free(root); err == nil && have < missing {
		return fmt.Errorf("%d MB are still to come, and %s has %d MB free: make room, or set HF_HUB_CACHE to another disk's directory", missing/1e6+1, root, have/1e6)
	}
	return nil
}

// lock waits until this process alone fetches a blob, in whatever program.
func (c *Client) lock(ctx context.Context, path, name string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; {
		got, err := tryLock(f)
		if err == nil && got {
			return func() { _ = f.Close() }, nil // which unlocks; the file stays, as filelock's does
		}
		if err == nil && !said {
			said = true
			c.log(name + " is being downloaded by another process: waiting for it")
		}
		if err == nil {
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return nil, errors.Join(err, f.Close())
	}
}

// writeRef replaces a ref, whole or not at all.
func writeRef(path, commit string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".ref-*")
	if err != nil {
		return err
	}
	_, err = temp.WriteString(commit)
	if err = errors.Join(err, temp.Chmod(0o644), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}
