package metrics

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/neurosnap/sentences"
	"github.com/neurosnap/sentences/data"
)

// punkt splits English text into sentences exactly as NLTK 3.8's
// PunktSentenceTokenizer does (Kiss and Strunk 2006). The trained model is the
// one that github.com/neurosnap/sentences carries, which is NLTK's; the
// decisions are NLTK's too, because that package's own inference cuts
// sentences differently (it adds abbreviations and treats ")" and quotes by
// rules of its own).
type punkt struct {
	model *sentences.Storage
}

// Orthographic contexts of a word type, as NLTK numbers them.
const (
	orthoBegUpper = 1 << 1
	orthoMidUpper = 1 << 2
	orthoUnkUpper = 1 << 3
	orthoBegLower = 1 << 4
	orthoMidLower = 1 << 5
	orthoUnkLower = 1 << 6

	orthoUpper = orthoBegUpper | orthoMidUpper | orthoUnkUpper
	orthoLower = orthoBegLower | orthoMidLower | orthoUnkLower
)

func newPunkt() (*punkt, error) {
	raw, err := data.Asset("data/english.json")
	if err != nil {
		return nil, fmt.Errorf("metrics: read the English punkt model: %w", err)
	}
	model, err := sentences.LoadTraining(raw)
	if err != nil {
		return nil, fmt.Errorf("metrics: decode the English punkt model: %w", err)
	}
	return &punkt{model: model}, nil
}

// split returns the sentences of text, without the white space between them.
func (p *punkt) split(text string) []string {
	var out []string
	spans := p.breaks(text)
	realign := 0
	for i, sp := range spans {
		start, end := sp[0]+realign, sp[1]
		realign = 0
		if i+1 < len(spans) {
			// Closing punctuation at the head of the next sentence belongs to
			// this one.
			next := spans[i+1]
			if kept, all := closers(text[next[0]:next[1]]); all > 0 {
				end, realign = next[0]+kept, all
			}
		}
		if start < end {
			out = append(out, text[start:end])
		}
	}
	return out
}

// breaks returns the byte spans between sentence breaks.
func (p *punkt) breaks(text string) [][2]int {
	var spans [][2]int
	last := 0
	// before is the word in front of the candidate, or what is left of it
	// after an earlier candidate in the same word.
	var before [2]int
	var pending *candidate
	flush := func() {
		c := pending
		if c == nil || !p.breaksAt(text[c.word[0]:c.word[1]]+text[c.pos:c.afterEnd]) {
			return
		}
		spans = append(spans, [2]int{last, c.pos + 1})
		last = c.pos + 1
		if c.next >= 0 {
			last = c.next
		}
	}
	for i := 0; i < len(text); i++ {
		if !isSentenceEnd(text[i]) {
			continue
		}
		c, ok := candidateAt(text, i)
		if !ok {
			continue
		}
		start := before[0]
		if k := strings.LastIndexAny(text[before[1]:i], " \t\n\r\v\f"); k > 0 {
			start = before[1] + k + 1
		}
		c.word = [2]int{start, i}
		if pending != nil && before[1] <= start {
			flush()
		}
		pending, before = &c, c.word
	}
	flush()
	return append(spans, [2]int{last, len(strings.TrimRightFunc(text, isSpace))})
}

// candidate is a sentence-ending character and its surroundings.
type candidate struct {
	pos      int    // of the character
	word     [2]int // the text of the word before it
	afterEnd int    // end of the token after it
	next     int    // start of the token after the white space, -1: none
}

// candidateAt looks for what must follow a potential end of sentence: other
// punctuation, or white space and a token.
func candidateAt(text string, i int) (candidate, bool) {
	if i+1 < len(text) && isNonWord(text[i+1]) {
		return candidate{pos: i, afterEnd: i + 2, next: -1}, true
	}
	next := i + 1 + leadingSpace(text[i+1:])
	if next == i+1 || next == len(text) {
		return candidate{}, false
	}
	end := next
	for {
		r, n := runeAt(text, end)
		if n == 0 || isSpace(r) {
			break
		}
		end += n
	}
	return candidate{pos: i, afterEnd: end, next: next}, true
}

func isSentenceEnd(c byte) bool { return c == '.' || c == '?' || c == '!' }

// isNonWord says whether the byte can never be part of a word.
func isNonWord(c byte) bool { return strings.IndexByte(`)";}]*:@'({[!?`, c) >= 0 }

func leadingSpace(s string) int {
	return len(s) - len(strings.TrimLeftFunc(s, isSpace))
}

// closers matches `["')\]}]+?(?:\s+|(?=--)|$)` at the head of a sentence, $
// at the end of any line. It returns the length of the match without and with
// trailing white space, zeros for no match.
func closers(s string) (kept, all int) {
	for i := 0; i < len(s) && strings.IndexByte(`"')]}`, s[i]) >= 0; i++ {
		rest := s[i+1:]
		if n := leadingSpace(rest); n > 0 {
			return i + 1, i + 1 + n
		}
		if rest == "" || strings.HasPrefix(rest, "--") {
			return i + 1, i + 1
		}
	}
	return 0, 0
}

// breaksAt says whether a sentence ends inside the context, before its last
// token.
func (p *punkt) breaksAt(context string) bool {
	var toks []punktToken
	for line := range strings.SplitSeq(context, "\n") {
		for i := 0; i < len(line); {
			if n := leadingSpace(line[i:]); n > 0 {
				i += n
				continue
			}
			n := punktWord(line[i:])
			toks = append(toks, newPunktToken(line[i:i+n]))
			i += n
		}
	}
	for i := range toks {
		p.byType(&toks[i])
	}
	for i := 0; i+1 < len(toks); i++ {
		p.byNeighbour(&toks[i], &toks[i+1])
		if toks[i].ends {
			return true
		}
	}
	return false
}

// punktWord is the length of the token at the head of s, which starts with no
// white space (the regular expression _word_tokenize_fmt).
func punktWord(s string) int {
	if n := multiPunct(s); n > 0 {
		return n
	}
	_, first := utf8.DecodeRuneInString(s)
	if strings.IndexByte("(\"`{[:;&#*@)}]-,", s[0]) >= 0 {
		return first
	}
	for i := first; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if isSpace(r) || endsWord(s[i:]) {
			return i
		}
		if r == ',' {
			after, m := runeAt(s, i+1)
			if m == 0 || isSpace(after) || endsWord(s[i+1:]) {
				return i
			}
		}
		i += n
	}
	return len(s)
}

func endsWord(s string) bool { return isNonWord(s[0]) || multiPunct(s) > 0 }

// multiPunct is the length of `\-{2,}|\.{2,}|(?:\.\s){2,}\.` at the head of s.
func multiPunct(s string) int {
	c := s[0]
	if c != '-' && c != '.' {
		return 0
	}
	n := 1
	for n < len(s) && s[n] == c {
		n++
	}
	if n > 1 || c == '-' {
		if n > 1 {
			return n
		}
		return 0
	}
	// ". . ." with any single white space between.
	end, dots := 0, 0
	for i := 0; i < len(s) && s[i] == '.'; {
		dots++
		if dots > 2 {
			end = i + 1
		}
		r, size := runeAt(s, i+1)
		if size == 0 || !isSpace(r) {
			break
		}
		i += 1 + size
	}
	return end
}

// punktToken is a token with what punkt concludes about it.
type punktToken struct {
	text     string
	typ      string // lower case, numbers as ##number##
	abbr     bool
	ellipsis bool
	ends     bool // a sentence ends here
}

func newPunktToken(text string) punktToken {
	typ := lower(text)
	if isPunktNumber(typ) {
		typ = "##number##"
	}
	return punktToken{text: text, typ: typ}
}

// isPunktNumber matches `^-?[\.,]?\d[\d,\.-]*\.?$`.
func isPunktNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	if s != "" && (s[0] == '.' || s[0] == ',') {
		s = s[1:]
	}
	for i, r := range s {
		if !isDigit(r) && (i == 0 || !strings.ContainsRune(",.-", r)) {
			return false
		}
	}
	return s != ""
}

func (t *punktToken) periodFinal() bool { return strings.HasSuffix(t.text, ".") }

func (t *punktToken) noPeriod() string {
	if len(t.typ) > 1 {
		return strings.TrimSuffix(t.typ, ".")
	}
	return t.typ
}

func (t *punktToken) noSentencePeriod() string {
	if t.ends {
		return t.noPeriod()
	}
	return t.typ
}

// initial says whether the token is one letter and a period.
func (t *punktToken) initial() bool {
	r, n := utf8.DecodeRuneInString(t.text)
	return isAlpha(r) && t.text[n:] == "."
}

func (t *punktToken) first() rune {
	r, _ := utf8.DecodeRuneInString(t.text)
	return r
}

// byType is the first pass: what the word alone says.
func (p *punkt) byType(t *punktToken) {
	switch {
	case t.text == "." || t.text == "?" || t.text == "!":
		t.ends = true
	case len(t.text) > 1 && strings.Trim(t.text, ".") == "":
		t.ellipsis = true
	case t.periodFinal() && !strings.HasSuffix(t.text, ".."):
		word := lower(t.text[:len(t.text)-1])
		tail := word[strings.LastIndexByte(word, '-')+1:]
		if p.model.IsAbbr(word, tail) {
			t.abbr = true
		} else {
			t.ends = true
		}
	}
}

// byNeighbour is the second pass: what the next word says about a token that
// ends in a period.
func (p *punkt) byNeighbour(t, next *punktToken) {
	if !t.periodFinal() {
		return
	}
	typ, nextTyp := t.noPeriod(), next.noSentencePeriod()
	initial := t.initial()
	if p.model.Collocations.Has(typ + "," + nextTyp) {
		t.ends, t.abbr = false, true
		return
	}
	if (t.abbr || t.ellipsis) && !initial {
		if p.starter(next) == yes {
			t.ends = true
			return
		}
		if unicode.IsUpper(next.first()) && p.model.SentStarters.Has(nextTyp) {
			t.ends = true
			return
		}
	}
	if initial || typ == "##number##" {
		starter := p.starter(next)
		neverLower := p.model.OrthoContext[nextTyp]&orthoLower == 0
		if starter == no || (starter == unknown && initial && unicode.IsUpper(next.first()) && neverLower) {
			t.ends, t.abbr = false, true
		}
	}
}

type verdict int

const (
	unknown verdict = iota
	no
	yes
)

// starter is the orthographic heuristic: does the token start a sentence?
func (p *punkt) starter(t *punktToken) verdict {
	if len(t.text) == 1 && strings.Contains(";:,.!?", t.text) {
		return no
	}
	seen := p.model.OrthoContext[t.noSentencePeriod()]
	first := t.first()
	if unicode.IsUpper(first) && seen&orthoLower != 0 && seen&orthoMidUpper == 0 {
		return yes
	}
	if unicode.IsLower(first) && (seen&orthoUpper != 0 || seen&orthoBegLower == 0) {
		return no
	}
	return unknown
}
