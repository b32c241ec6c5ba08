package artifacts

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Backend stores objects under keys. It knows nothing of blobs, manifests or
// digests; everything the store promises rests on the guarantees below, and
// storetest.Run checks them for every implementation.
//
// A Backend is safe for concurrent use, also by several processes that share
// the same directory or bucket. Keys are valid in the sense of [ValidKey]; any
// other key is refused with an error wrapping ErrInvalidKey. No key may be a
// directory of another ("a" and "a/b"): what happens then is undefined.
//
// Errors name the location and the key. A method returns promptly, with an
// error wrapping ctx.Err(), once its context is done.
type Backend interface {
	// Location describes where the objects lie, for messages and logs. It
	// holds no secrets.
	Location() string

	// Put stores everything r yields under key and replaces an object that is
	// already there. It is atomic: other callers see the old object, then the
	// new one, never a part of either. If r fails, the context ends or the
	// backend runs out of space, the old object stays as it was (or absent)
	// and nothing is left behind. When Put returns nil the object is durable.
	// Memory use does not grow with the size of the object.
	Put(ctx context.Context, key string, r io.Reader) error

	// PutIfAbsent stores data under key unless the key exists, in which case
	// it returns an error wrapping ErrExists and changes nothing. Of several
	// concurrent calls for one key exactly one succeeds.
	//
	// A network may lose the answer to a call that succeeded; the retry then
	// reports ErrExists for the caller's own write. Callers to whom the
	// difference matters read the object back and compare.
	PutIfAbsent(ctx context.Context, key string, data []byte) error

	// Get opens the object for reading; the caller closes it. An object that
	// is replaced or deleted meanwhile yields its old bytes or an error, never
	// a mixture. An error wrapping ErrNotFound means that there is none.
	Get(ctx context.Context, key string) (io.ReadCloser, error)

	// Stat describes the object. An error wrapping ErrNotFound means that
	// there is none.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields each object whose key starts with prefix, in no particular
	// order. The prefix is empty (all objects) or ends with "/". Objects
	// written before the call are listed; those written or deleted during it
	// may or may not be. A prefix without objects yields nothing. After an
	// error the sequence ends.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Delete removes the object. Deleting what is not there is no error.
	Delete(ctx context.Context, key string) error
}

// ContextReader reads from r and fails once ctx is done.
func ContextReader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// Object describes a stored object.
type Object struct {
	Key     string
	Bytes   int64
	ModTime time.Time // when it was last written, by the backend's clock
}

// Uploads is implemented by a Backend in which a killed writer may leave
// something half-written behind, which takes space and is no object.
type Uploads interface {
	// Uploads yields what is half-written, also by writers that are alive.
	Uploads(ctx context.Context) iter.Seq2[Upload, error]
	// Abort removes it. Its writer, if there is one, gets an error.
	Abort(ctx context.Context, u Upload) error
}

// Upload is an object that is being written, or was.
type Upload struct {
	Key     string // of the object that it was to become
	ID      string
	Bytes   int64
	ModTime time.Time // when it began, or was last written to, by the backend's clock
}

// Errors that callers tell apart with errors.Is. The errors returned wrap them
// together with the location, the key and what to do about it.
var (
	ErrNotFound   = errors.New("not found")
	ErrExists     = errors.New("already exists")
	ErrInvalidKey = errors.New("invalid key")

	// ErrCorrupt: the bytes stored under a key are not those that were put
	// there. See CorruptError.
	ErrCorrupt = errors.New("corrupt")
	// ErrDamaged: a manifest is there, but it or one of its blobs is missing
	// or corrupt, so the stage has to be run again. See DamagedError.
	ErrDamaged = errors.New("damaged artifact")
	// ErrLeaseHeld: another attempt holds the stage. See HeldError.
	ErrLeaseHeld = errors.New("lease held")
	// ErrLeaseLost: another attempt took the stage over; the caller must stop.
	ErrLeaseLost = errors.New("lease lost")
)
