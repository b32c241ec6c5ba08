package artifacts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// encodeJSON is the one encoding of the store's documents: struct fields in
// order, map keys sorted, two spaces, no HTML escapes, a newline at the end.
// Same value, same bytes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// canonicalJSON sorts the keys of raw JSON and drops its white space; numbers
// stay as they are written. Empty input stays empty.
func canonicalJSON(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, fmt.Errorf("more than one JSON value")
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// document is JSON that carries the SHA-256 of its own encoding with the digest
// field, the last one, left empty.
type document interface {
	digest() *string
}

const digestField = "\n  \"digest\": \""

// seal sets the digest of d and returns its encoding.
func seal(d document) ([]byte, error) {
	*d.digest() = ""
	data, err := encodeJSON(d)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	*d.digest() = hex.EncodeToString(sum[:])
	return encodeJSON(d)
}

// unseal checks that data is, to the byte, what seal wrote and decodes it into
// d. It works on the bytes, not on the decoded value, so that any flipped bit
// is a CorruptError and a document of a later version is not.
func unseal(key string, data []byte, d document) error {
	// A newline within a JSON string is escaped and nested fields are indented
	// deeper: this finds the field of the outermost object.
	at := bytes.LastIndex(data, []byte(digestField)) + len(digestField)
	if at < len(digestField) || len(data) < at+2*sha256.Size {
		return &CorruptError{key, "it states no digest"}
	}
	stated := string(data[at : at+2*sha256.Size])
	sum := sha256.Sum256(append(data[:at:at], data[at+2*sha256.Size:]...))
	if got := hex.EncodeToString(sum[:]); got != stated {
		return &CorruptError{key, fmt.Sprintf("its content has SHA-256 %s, it states %q", got, stated)}
	}
	var header struct{ Version int }
	if err := json.Unmarshal(data, &header); err != nil {
		return &CorruptError{key, "not valid JSON: " + err.Error()}
	}
	if header.Version != documentVersion {
		return fmt.Errorf("read %s: format version %d, this program knows %d; use the release that wrote it or another store", key, header.Version, documentVersion)
	}
	if err := json.Unmarshal(data, d); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// documentVersion is the version of the formats of manifests and markers.
const documentVersion = 1
