package esc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// scanner reads JSON as a stream. Unlike encoding/json it checks a limit
// before a string grows beyond it, keeps nothing of what it skips, and knows
// line and byte of every fault.
type scanner struct {
	r        *bufio.Reader
	offset   int64 // bytes consumed
	line     int   // from 1
	maxBytes int64
	oneLine  bool   // a line's end is a fault: one value of JSON lines is read
	buf      []byte // reused by text
}

const maxDepth = 64

var (
	errTruncated = errors.New("the JSON ends too early; the file is truncated")
	errTooLong   = errors.New("too long")
	errLineEnds  = errors.New("the line ends inside a dialogue; JSON lines hold one a line, a JSON list may span lines")
)

func newScanner(r io.Reader, maxBytes int64) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 64<<10), line: 1, maxBytes: maxBytes}
}

func (s *scanner) next() (byte, error) {
	c, err := s.r.ReadByte()
	if err == io.EOF {
		return 0, errTruncated
	}
	if err != nil {
		return 0, fmt.Errorf("reading: %w", err)
	}
	s.offset++
	if c == '\n' {
		if s.oneLine {
			return 0, errLineEnds
		}
		s.line++
	}
	if s.offset > s.maxBytes {
		return 0, fmt.Errorf("the file is larger than the limit of %d bytes; split it or raise the limit", s.maxBytes)
	}
	return c, nil
}

// peek returns the next byte that is not white space without consuming it.
func (s *scanner) peek() (byte, error) {
	for {
		c, err := s.r.ReadByte()
		if err == io.EOF {
			return 0, errTruncated
		}
		if err != nil {
			return 0, fmt.Errorf("reading: %w", err)
		}
		if err := s.r.UnreadByte(); err != nil {
			return 0, err
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, nil
		}
		if _, err := s.next(); err != nil {
			return 0, err
		}
	}
}

// byteOrderMark consumes a UTF-8 byte order mark; one of UTF-16 is an error.
func (s *scanner) byteOrderMark() error {
	head, _ := s.r.Peek(3)
	switch {
	case len(head) >= 3 && head[0] == 0xEF && head[1] == 0xBB && head[2] == 0xBF:
		s.offset += 3
		_, err := s.r.Discard(3)
		return err
	case len(head) >= 2 && (head[0] == 0xFF && head[1] == 0xFE || head[0] == 0xFE && head[1] == 0xFF):
		return errors.New("the file is UTF-16; save it as UTF-8")
	}
	return nil
}

func (s *scanner) expect(want byte) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return fmt.Errorf("found %q where %q belongs", c, want)
	}
	_, err = s.next()
	return err
}

// items walks over the comma-separated items between two brackets.
func (s *scanner) items(left, right byte, item func(i int) error) error {
	if err := s.expect(left); err != nil {
		return err
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c == right {
		_, err = s.next()
		return err
	}
	for i := 0; ; i++ {
		if err := item(i); err != nil {
			return err
		}
		c, err := s.peek()
		if err != nil {
			return err
		}
		if c != right && c != ',' {
			return fmt.Errorf("found %q where %q or ',' belongs", c, right)
		}
		if _, err := s.next(); err != nil {
			return err
		}
		if c == right {
			return nil
		}
	}
}

func (s *scanner) array(item func(i int) error) error { return s.items('[', ']', item) }

// object calls field with each key; field must consume the value.
func (s *scanner) object(field func(key string) error) error {
	return s.items('{', '}', func(int) error {
		key, err := s.text(1 << 10)
		if err != nil {
			return fmt.Errorf("a key: %w", err)
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return field(key)
	})
}

// text reads a string of at most max bytes (decoded).
func (s *scanner) text(max int) (string, error) {
	s.buf = s.buf[:0]
	err := s.stringBytes(func(p []byte) error {
		if len(s.buf)+len(p) > max {
			return fmt.Errorf("%w: more than the limit of %d bytes", errTooLong, max)
		}
		s.buf = append(s.buf, p...)
		return nil
	})
	if err != nil {
		return "", err
	}
	return string(s.buf), nil
}

// stringBytes decodes one string and hands its characters over one by one.
func (s *scanner) stringBytes(emit func([]byte) error) error {
	if err := s.expect('"'); err != nil {
		return err
	}
	var char [utf8.UTFMax]byte
	for {
		c, err := s.next()
		if err != nil {
			return err
		}
		switch {
		case c == '"':
			return nil
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return err
			}
			if err := emit(utf8.AppendRune(char[:0], r)); err != nil {
				return err
			}
			continue
		case c < 0x20:
			return fmt.Errorf("a raw control character 0x%02x in a string; escape it", c)
		}
		char[0] = c
		n := 1
		for c >= utf8.RuneSelf && !utf8.FullRune(char[:n]) {
			if char[n], err = s.next(); err != nil {
				return err
			}
			n++
		}
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRune(char[:n]); r == utf8.RuneError && size <= 1 {
				return errors.New("invalid UTF-8 in a string; save the file as UTF-8")
			}
		}
		if err := emit(char[:n]); err != nil {
			return err
		}
	}
}

// escape decodes what follows a backslash. A lone surrogate becomes U+FFFD, as
// in encoding/json.
func (s *scanner) escape() (rune, error) {
	c, err := s.next()
	if err != nil {
		return 0, err
	}
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := s.hex4()
		if err != nil || r < 0xD800 || r > 0xDFFF {
			return r, err
		}
		low, ok := s.peekLowSurrogate()
		if r > 0xDBFF || !ok {
			return utf8.RuneError, nil
		}
		for range 6 { // consume the \uXXXX that peekLowSurrogate saw
			if _, err := s.next(); err != nil {
				return 0, err
			}
		}
		return (r-0xD800)<<10 + (low - 0xDC00) + 0x10000, nil
	}
	return 0, fmt.Errorf("unknown escape \\%c in a string", c)
}

func (s *scanner) hex4() (rune, error) {
	var r rune
	for range 4 {
		c, err := s.next()
		if err != nil {
			return 0, err
		}
		digit := hexDigit(c)
		if digit < 0 {
			return 0, fmt.Errorf("found %q in a \\u escape where a hexadecimal digit belongs", c)
		}
		r = r<<4 | digit
	}
	return r, nil
}

func (s *scanner) peekLowSurrogate() (rune, bool) {
	ahead, err := s.r.Peek(6)
	if err != nil || ahead[0] != '\\' || ahead[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range ahead[2:] {
		digit := hexDigit(c)
		if digit < 0 {
			return 0, false
		}
		r = r<<4 | digit
	}
	return r, r >= 0xDC00 && r <= 0xDFFF
}

func hexDigit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}

// endLine consumes the rest of a line, which has to be empty.
func (s *scanner) endLine() error {
	for {
		ahead, err := s.r.Peek(1)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		c := ahead[0]
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return fmt.Errorf("found %q after a dialogue; JSON lines hold one dialogue a line and nothing else", c)
		}
		if _, err := s.next(); err != nil || c == '\n' {
			return err
		}
	}
}

// end checks that nothing but white space is left.
func (s *scanner) end() error {
	c, err := s.peek()
	if errors.Is(err, errTruncated) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("found %q after the end of the list; one file holds one JSON document", c)
}
