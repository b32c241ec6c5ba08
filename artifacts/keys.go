package artifacts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Limits of keys: S3 allows 1024 bytes for a key, file systems 255 for a name,
// of which a gateway on a file system uses some for its temporary files.
const (
	maxKeyBytes     = 900
	maxSegmentBytes = 200
)

// ValidKey reports, as an error wrapping ErrInvalidKey, why key cannot name an
// object. A key is a relative slash-separated path of segments made of ASCII
// letters, digits and "-_.=+@,%"; no segment is empty or starts with a dot, so
// that no key can leave the store or hide in it.
func ValidKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: empty", ErrInvalidKey)
	}
	if len(key) > maxKeyBytes {
		return fmt.Errorf("%w %.40q…: %d bytes, at most %d", ErrInvalidKey, key, len(key), maxKeyBytes)
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w %q: empty segment", ErrInvalidKey, key)
		case segment[0] == '.':
			return fmt.Errorf("%w %q: segment %q starts with a dot", ErrInvalidKey, key, segment)
		case len(segment) > maxSegmentBytes:
			return fmt.Errorf("%w %q: segment of %d bytes, at most %d", ErrInvalidKey, key, len(segment), maxSegmentBytes)
		}
		for i := range len(segment) {
			if c := segment[i]; !plain(c) && !strings.ContainsRune("=+@,%", rune(c)) {
				return fmt.Errorf("%w %q: character %q", ErrInvalidKey, key, c)
			}
		}
	}
	return nil
}

// ValidPrefix is ValidKey for the argument of List: empty, or a key and a slash.
func ValidPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	trimmed, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("%w: prefix %q does not end with a slash", ErrInvalidKey, prefix)
	}
	return ValidKey(trimmed)
}

// EscapeSegment turns any name that comes from data (a workflow ID, a file
// name) into one segment of a key: letters, digits, "-", "_" and inner dots
// stay, every other byte becomes %XX. Different names give different segments;
// url.PathUnescape is the inverse.
func EscapeSegment(name string) (string, error) {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) && !(c == '.' && i == 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	segment := b.String()
	if segment == "" || len(segment) > maxSegmentBytes {
		return "", fmt.Errorf("%w: name %q has %d bytes when escaped, want 1 to %d", ErrInvalidKey, name, len(segment), maxSegmentBytes)
	}
	return segment, nil
}

// escapePath escapes each segment of a slash-separated relative name.
func escapePath(name string) (string, error) {
	segments := strings.Split(name, "/")
	for i, s := range segments {
		if s == "." || s == ".." {
			return "", fmt.Errorf("%w: name %q is not a clean relative path", ErrInvalidKey, name)
		}
		escaped, err := EscapeSegment(s)
		if err != nil {
			return "", fmt.Errorf("name %q: %w", name, err)
		}
		segments[i] = escaped
	}
	return path.Join(segments...), nil
}

func unescapePath(escaped string) (string, error) { return url.PathUnescape(escaped) }

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// validDigest checks that s is a lower-case hexadecimal SHA-256.
func validDigest(what, s string) error {
	if len(s) == 2*sha256.Size && s == strings.ToLower(s) {
		if _, err := hex.DecodeString(s); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s %q is not a lower-case hexadecimal SHA-256", ErrInvalidKey, what, s)
}

func blobKey(digest string) string { return "blobs/sha256/" + digest[:2] + "/" + digest }

// ManifestKey is where the manifest of a stage lies.
func ManifestKey(fingerprint string) string { return stageKey(fingerprint, "manifest.json") }

func stageKey(fingerprint string, rest ...string) string {
	return "stages/" + fingerprint + "/" + strings.Join(rest, "/")
}
