package tokens

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// splitter finds the end of the pre-token that starts at text[0]; text is
// never empty and the returned length is at least 1.
type splitter func(text string) int

// The pre-tokenizer patterns of the byte-level BPE tokenizers we load. Go's
// regexp has no lookahead, so each is matched by hand, alternative by
// alternative, as a backtracking engine would take them.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// splitterFor returns the matcher of a pre-tokenizer pattern.
func splitterFor(pattern string) (splitter, error) {
	switch pattern {
	case gpt2Pattern:
		return splitGPT2, nil
	case qwen2Pattern:
		return func(text string) int { return splitTiktoken(text, 1) }, nil
	case llama3Pattern:
		return func(text string) int { return splitTiktoken(text, 3) }, nil
	}
	return nil, fmt.Errorf("pre-tokenizer pattern %q is not one of GPT-2's, Qwen2's and Llama-3's", pattern)
}

type runeClass uint8

const (
	classOther  runeClass = iota // [^\s\p{L}\p{N}], broken UTF-8 included
	classLetter                  // \p{L}
	classNumber                  // \p{N}
	classSpace                   // \s
)

// asciiClass holds the class of the first 128 runes: they are nearly all of
// what is looked up.
var asciiClass = func() (table [utf8.RuneSelf]runeClass) {
	for r := range rune(utf8.RuneSelf) {
		table[r] = slowClass(r)
	}
	return table
}()

func slowClass(r rune) runeClass {
	switch {
	case unicode.IsLetter(r):
		return classLetter
	case unicode.IsNumber(r):
		return classNumber
	case unicode.IsSpace(r):
		return classSpace
	}
	return classOther
}

// classAt returns the first rune of text, its class and its size in bytes;
// size is 0 at the end.
func classAt(text string) (r rune, class runeClass, size int) {
	if text == "" {
		return 0, classOther, 0
	}
	if b := text[0]; b < utf8.RuneSelf {
		return rune(b), asciiClass[b], 1
	}
	r, size = utf8.DecodeRuneInString(text)
	if r == utf8.RuneError && size == 1 {
		return r, classOther, 1
	}
	return r, slowClass(r), size
}

// runOf returns the length of the longest prefix of text whose runes are all
// of class; limit > 0 bounds the number of runes.
func runOf(text string, class runeClass, limit int) int {
	n := 0
	for count := 0; limit == 0 || count < limit; count++ {
		_, c, size := classAt(text[n:])
		if size == 0 || c != class {
			break
		}
		n += size
	}
	return n
}

// splitGPT2 matches gpt2Pattern.
func splitGPT2(text string) int {
	if n := contraction(text, false); n > 0 {
		return n
	}
	lead := 0
	if text[0] == ' ' {
		lead = 1
	}
	_, class, size := classAt(text[lead:])
	if size > 0 && class != classSpace {
		return lead + runOf(text[lead:], class, 0)
	}
	return splitSpaces(text)
}

// splitDigits matches what the pre-tokenizer Digits with individual_digits, followed by GPT-2's pattern, makes (SmolLM):
// a number is always alone, and what stands before it ends there, white space included.
func splitDigits(text string) int {
	switch _, class, size := classAt(text); class {
	case classNumber:
		return size
	case classSpace:
		run := runOf(text, classSpace, 0)
		if _, next, _ := classAt(text[run:]); next == classNumber {
			return run
		}
	}
	return splitGPT2(text)
}

// splitTiktoken matches qwen2Pattern (digits = 1) and llama3Pattern (3).
func splitTiktoken(text string, digits int) int {
	if n := contraction(text, true); n > 0 {
		return n
	}
	r, class, size := classAt(text)
	// [^\r\n\p{L}\p{N}]?\p{L}+
	switch {
	case class == classLetter:
		return runOf(text, classLetter, 0)
	case class == classNumber:
		return runOf(text, classNumber, digits)
	case r != '\r' && r != '\n':
		if n := runOf(text[size:], classLetter, 0); n > 0 {
			return size + n
		}
	}
	// ' ?[^\s\p{L}\p{N}]+[\r\n]*'
	lead := 0
	if r == ' ' {
		lead = 1
	}
	if n := runOf(text[lead:], classOther, 0); n > 0 {
		return lead + n + newlines(text[lead+n:])
	}
	// \s*[\r\n]+: the greedy \s* gives back up to the last line break of the run.
	run := runOf(text, classSpace, 0)
	for i := run - 1; i >= 0; i-- {
		if text[i] == '\r' || text[i] == '\n' {
			return i + 1
		}
	}
	return splitSpaces(text)
}

// splitSpaces matches \s+(?!\S)|\s+: a run of spaces leaves its last one to
// the word that follows.
func splitSpaces(text string) int {
	run := runOf(text, classSpace, 0)
	if run == len(text) {
		return run
	}
	if _, last := utf8.DecodeLastRuneInString(text[:run]); last < run {
		return run - last
	}
	return run
}

func newlines(text string) int {
	n := 0
	for n < len(text) && (text[n] == '\r' || text[n] == '\n') {
		n++
	}
	return n
}

// contraction matches 's|'t|'re|'ve|'m|'ll|'d, ignoring case where fold is
// set; U+017F folds to s, as in Oniguruma.
func contraction(text string, fold bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	lower := func(i int) byte {
		if i >= len(text) {
			return 0
		}
		b := text[i]
		if fold && 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		return b
	}
	switch first, second := lower(1), lower(2); {
	case first == 's' || first == 't' || first == 'm' || first == 'd':
		return 2
	case second == 'e' && (first == 'r' || first == 'v'), first == 'l' && second == 'l':
		return 3
	case fold && len(text) > 2 && text[1:3] == "\u017f":
		return 3
	}
	return 0
}
