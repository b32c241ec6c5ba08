package artifacts

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sync/errgroup"
)

// Ranger is a [Backend] that also gives parts of an object, so that several
// connections bring a large one.
type Ranger interface {
	// GetRange opens n bytes of the object from an offset on, which have to be there.
	// Errors are those of Get.
	GetRange(ctx context.Context, key string, offset, n int64) (io.ReadCloser, error)
}

const (
	rangeBytes    = 16 << 20 // of one request
	rangeParallel = 8        // requests of one download under way
)

// fetchRanges brings an object part by part into a file, and then verifies all of it.
func (s *Store) fetchRanges(ctx context.Context, from Ranger, ref Ref, f *os.File) error {
	o, err := s.backend.Stat(ctx, ref.Key)
	if err != nil {
		return err
	}
	if o.Bytes != ref.Bytes {
		return &CorruptError{ref.Key, fmt.Sprintf("%d bytes, want %d", o.Bytes, ref.Bytes)}
	}
	g, fetching := errgroup.WithContext(ctx)
	g.SetLimit(rangeParallel)
	for offset := int64(0); offset < ref.Bytes; offset += rangeBytes {
		g.Go(func() error {
			n := min(rangeBytes, ref.Bytes-offset)
			r, err := from.GetRange(fetching, ref.Key, offset, n)
			if err != nil {
				return err
			}
			defer r.Close()
			got, err := copyBytes(telling(ctx, io.NewOffsetWriter(f, offset)), ContextReader(fetching, io.LimitReader(r, n)))
			if err == nil && got != n {
				err = fmt.Errorf("read %s: %d bytes from %d on, want %d: %w", ref.Key, got, offset, n, io.ErrUnexpectedEOF)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = copyBytes(io.Discard, newVerifyingReader(ref, ContextReader(ctx, f)))
	return err
}

type progressKey struct{}

// WithProgress has downloads into the cache under a context tell how many bytes have
// come, or were verified, since they last did. They do from several goroutines.
func WithProgress(ctx context.Context, tell func(bytes int)) context.Context {
	return context.WithValue(ctx, progressKey{}, tell)
}

// telling is a writer that tells of what is written, where the context wants to know.
func telling(ctx context.Context, w io.Writer) io.Writer {
	tell, ok := ctx.Value(progressKey{}).(func(int))
	if !ok {
		return w
	}
	return writerFunc(func(p []byte) (int, error) {
		n, err := w.Write(p)
		tell(n)
		return n, err
	})
}
