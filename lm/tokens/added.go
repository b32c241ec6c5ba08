package tokens

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is one entry of tokenizer.json's added_tokens.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// addedMatcher finds added tokens in text, leftmost first, then longest.
type addedMatcher struct {
	byFirst [256][]addedToken // by the content's first byte, longest content first
	empty   bool
}

func newAddedMatcher(tokens []addedToken) *addedMatcher {
	m := &addedMatcher{empty: true}
	for _, tok := range tokens {
		if tok.Content == "" {
			continue
		}
		m.empty = false
		list := m.byFirst[tok.Content[0]]
		at := len(list)
		for at > 0 && len(list[at-1].Content) < len(tok.Content) {
			at--
		}
		list = append(list, addedToken{})
		copy(list[at+1:], list[at:])
		list[at] = tok
		m.byFirst[tok.Content[0]] = list
	}
	return m
}

// next returns the first added token at or after from, with the text range
// that it takes (lstrip and rstrip take the white space around it).
func (m *addedMatcher) next(text string, from int) (tok addedToken, start, end int, ok bool) {
	if m.empty {
		return addedToken{}, 0, 0, false
	}
	for i := from; i < len(text); i++ {
		for _, tok := range m.byFirst[text[i]] {
			if !strings.HasPrefix(text[i:], tok.Content) {
				continue
			}
			start, end = i, i+len(tok.Content)
			if tok.SingleWord && (wordBefore(text[:start]) || wordAfter(text[end:])) {
				break
			}
			if tok.LStrip {
				start = from + len(strings.TrimRightFunc(text[from:start], unicode.IsSpace))
			}
			if tok.RStrip {
				end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
			}
			return tok, start, end, true
		}
	}
	return addedToken{}, 0, 0, false
}

func wordBefore(text string) bool {
	r, size := utf8.DecodeLastRuneInString(text)
	return size > 0 && isWord(r)
}

func wordAfter(text string) bool {
	r, size := utf8.DecodeRuneInString(text)
	return size > 0 && isWord(r)
}

// isWord is the regexp class \w.
func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r) || unicode.Is(unicode.Pc, r)
}
