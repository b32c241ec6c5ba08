package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// Ref names content: where it lies, what it is and how long it is. It is all
// that passes between stages and through workflow histories.
type Ref struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
	Bytes  int64  `json:"bytes"`
}

func (r Ref) validate() error {
	if err := ValidKey(r.Key); err != nil {
		return err
	}
	if r.Bytes < 0 {
		return fmt.Errorf("reference to %s: %d bytes", r.Key, r.Bytes)
	}
	return validDigest("digest of "+r.Key, r.SHA256)
}

// CorruptError reports that an object is not what its reference says. It wraps
// ErrCorrupt.
type CorruptError struct {
	Key    string
	Reason string // what differs, with both values
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is corrupt: %s; run the stage that wrote it again", e.Key, e.Reason)
}

func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// verifyingReader passes bytes on and returns a CorruptError instead of io.EOF
// if they were not those of the reference, or as soon as there are too many.
type verifyingReader struct {
	ref  Ref
	r    io.Reader
	hash hash.Hash
	n    int64
}

func newVerifyingReader(ref Ref, r io.Reader) *verifyingReader {
	return &verifyingReader{ref: ref, r: r, hash: sha256.New()}
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if v.n > v.ref.Bytes || err == io.EOF && v.n != v.ref.Bytes {
		return 0, &CorruptError{v.ref.Key, fmt.Sprintf("%d bytes or more, want %d", v.n, v.ref.Bytes)}
	}
	if err == io.EOF {
		if sum := hex.EncodeToString(v.hash.Sum(nil)); sum != v.ref.SHA256 {
			return 0, &CorruptError{v.ref.Key, fmt.Sprintf("SHA-256 %s, want %s", sum, v.ref.SHA256)}
		}
	}
	return n, err
}

// Open opens what ref names. Its reader returns a CorruptError in place of
// io.EOF if the content is not that of ref: a caller that acts on what it has
// read before the end must be able to take it back. An error wrapping
// ErrNotFound means that the object is missing.
func (s *Store) Open(ctx context.Context, ref Ref) (io.ReadCloser, error) {
	if err := ref.validate(); err != nil {
		return nil, err
	}
	r, err := s.backend.Get(ctx, ref.Key)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{newVerifyingReader(ref, r), r}, nil
}

// ReadAll returns the verified content of ref, which must not be longer than
// limit bytes.
func (s *Store) ReadAll(ctx context.Context, ref Ref, limit int64) ([]byte, error) {
	if ref.Bytes > limit {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d expected; stream it with Open", ref.Key, ref.Bytes, limit)
	}
	r, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref.Key, err)
	}
	return data, nil
}

// VerifyRef reads ref to its end and returns a CorruptError or an error
// wrapping ErrNotFound if it is not whole.
func (s *Store) VerifyRef(ctx context.Context, ref Ref) error {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := copyBytes(io.Discard, r); err != nil {
		return fmt.Errorf("verify %s: %w", ref.Key, err)
	}
	return nil
}

// copyBytes is io.Copy in large pieces: gigabytes in the usual 32 KiB cost more
// in calls to the system and between goroutines than in bytes.
func copyBytes(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 1<<20))
}

// readObject returns a small object whose digest is not known beforehand; its
// format carries it.
func (s *Store) readObject(ctx context.Context, key string) ([]byte, error) {
	r, err := s.backend.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(data) > maxDocument {
		return nil, &CorruptError{key, fmt.Sprintf("more than %d bytes", maxDocument)}
	}
	return data, nil
}

// maxDocument bounds the JSON documents of the store: manifests, markers,
// leases. The largest, a manifest with thousands of files, has a few MiB.
const maxDocument = 16 << 20

// DigestBytes is the SHA-256 of data, in lower-case hexadecimal.
func DigestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// CheckBytes returns a CorruptError where data is not what its digest says.
func CheckBytes(key string, data []byte, want string) error {
	if got := DigestBytes(data); got != want {
		return &CorruptError{key, fmt.Sprintf("SHA-256 %s, want %s", got, want)}
	}
	return nil
}
