package tokens

import "strings"

// Decode returns the text of ids, special tokens by their names. Bytes that
// are not UTF-8 become U+FFFD, as in Rust's from_utf8_lossy.
func (t *Tokenizer) Decode(ids []int32) string { return lossyUTF8(t.DecodeBytes(ids)) }

// DecodeText is Decode without special tokens.
func (t *Tokenizer) DecodeText(ids []int32) string {
	kept := make([]int32, 0, len(ids))
	for _, id := range ids {
		if !t.IsSpecial(id) {
			kept = append(kept, id)
		}
	}
	return t.Decode(kept)
}

// DecodeBytes returns the bytes that ids stand for; unknown ids give none.
func (t *Tokenizer) DecodeBytes(ids []int32) []byte {
	var out []byte
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.raw) {
			out = append(out, t.raw[id]...)
		}
	}
	return out
}

// Decoder turns ids into text one at a time and holds back a character
// until its last byte is there.
type Decoder struct {
	t       *Tokenizer
	pending []byte
}

// NewDecoder returns a Decoder that leaves special tokens out.
func (t *Tokenizer) NewDecoder() *Decoder { return &Decoder{t: t} }

// Write adds an id and returns the characters that are complete with it. The
// concatenation of all results and Flush is DecodeText of all ids.
func (d *Decoder) Write(id int32) string {
	if d.t.IsSpecial(id) {
		return ""
	}
	d.pending = append(d.pending, d.t.DecodeBytes([]int32{id})...)
	whole := len(d.pending) - incompleteTail(d.pending)
	text := lossyUTF8(d.pending[:whole])
	d.pending = append(d.pending[:0], d.pending[whole:]...)
	return text
}

// Flush returns what is left, an incomplete character as U+FFFD.
func (d *Decoder) Flush() string {
	text := lossyUTF8(d.pending)
	d.pending = nil
	return text
}

// lossyUTF8 replaces each maximal part that cannot begin a character by one
// U+FFFD (Unicode's practice, which Rust follows; Go's own functions replace
// byte by byte or whole runs).
func lossyUTF8(data []byte) string {
	var out strings.Builder
	out.Grow(len(data))
	for len(data) > 0 {
		size, whole := charLength(data)
		if whole {
			out.Write(data[:size])
		} else {
			out.WriteRune('\uFFFD')
		}
		data = data[size:]
	}
	return out.String()
}

// incompleteTail returns how many bytes at the end of data begin a character
// that more bytes could complete.
func incompleteTail(data []byte) int {
	for n := 1; n <= 3 && n <= len(data); n++ {
		tail := data[len(data)-n:]
		if tail[0] < 0x80 {
			return 0
		}
		if tail[0] >= 0xC0 {
			if size, whole := charLength(tail); !whole && size == n && n < leadLength(tail[0]) {
				return n
			}
			return 0
		}
	}
	return 0
}

func leadLength(b byte) int {
	switch {
	case b < 0x80:
		return 1
	case b >= 0xC2 && b <= 0xDF:
		return 2
	case b >= 0xE0 && b <= 0xEF:
		return 3
	case b >= 0xF0 && b <= 0xF4:
		return 4
	}
	return 0
}

// charLength returns the length of the character at the start of data, or of
// the maximal beginning of one where it is broken.
func charLength(data []byte) (size int, whole bool) {
	want := leadLength(data[0])
	if want <= 1 {
		return 1, want == 1
	}
	low, high := byte(0x80), byte(0xBF)
	switch data[0] { // Table 3-7 of the Unicode standard
	case 0xE0:
		low = 0xA0
	case 0xED:
		high = 0x9F
	case 0xF0:
		low = 0x90
	case 0xF4:
		high = 0x8F
	}
	for size = 1; size < want; size++ {
		if size >= len(data) || data[size] < low || data[size] > high {
			return size, false
		}
		low, high = 0x80, 0xBF
	}
	return size, true
}
