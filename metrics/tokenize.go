package metrics

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Tokenizer cuts English text into words exactly as nltk.word_tokenize of
// NLTK 3.8 does: punkt sentences, then the "destructive" variant of the Penn
// Treebank tokenizer. It is immutable and safe for concurrent use.
type Tokenizer struct {
	punkt *punkt
	// The rewriting rules in NLTK's order; parentheses, double dashes and the
	// added outer spaces stand between punctuation and ending.
	starting, punctuation, ending, contractions []rule
}

// rule rewrites a text; trigger lists characters without which it cannot
// match, so that most rules cost one scan.
type rule struct {
	trigger string
	apply   func(string) string
}

// NewTokenizer loads the English sentence model.
func NewTokenizer() (*Tokenizer, error) {
	p, err := newPunkt()
	if err != nil {
		return nil, err
	}
	// Python's \s; \d is \p{Nd}.
	const space = `[\s\v\p{Z}\x{85}\x{1c}-\x{1f}]`
	re := func(trigger, pattern, replacement string) rule {
		compiled := regexp.MustCompile(pattern)
		return rule{trigger, func(s string) string { return compiled.ReplaceAllString(s, replacement) }}
	}
	return &Tokenizer{
		punkt: p,
		starting: []rule{
			re("«“‘„`", "([«“‘„]|`+)", " $1 "),
			re(`"`, `^"`, "``"),
			re("`", "(``)", " $1 "),
			re(`"'`, `([ (\[{<])("|'{2})`, "$1 `` "),
			{"'", openQuote},
		},
		punctuation: []rule{
			re(".", `([^.])(\.)([\])}>"'»”’ ]*)`+space+`*$`, "$1 $2 $3 "),
			re(":,", `([:,])(\P{Nd})`, " $1 $2"),
			re(":,", `([:,])$`, " $1 "),
			re(".", `\.{2,}`, " $0 "),
			{";@#$%&", padder(";@#$%&")},
			re(".", `([^.])(\.)([\])}>"']*)`+space+`*$`, "$1 $2$3 "),
			{"?!", padder("?!")},
			re("'", `([^'])' `, "$1 ' "),
			{"*", padder("*")},
			{"][(){}<>", padder("][(){}<>")},
			{"-", func(s string) string { return strings.ReplaceAll(s, "--", " -- ") }},
		},
		ending: []rule{
			{"»”’", padder("»”’")},
			{"'", func(s string) string { return strings.ReplaceAll(s, "''", " '' ") }},
			{`"`, func(s string) string { return strings.ReplaceAll(s, `"`, " '' ") }},
			re("'", `([^' ])('[sS]|'[mM]|'[dD]|') `, "$1 $2 "),
			re("'", `([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) `, "$1 $2 "),
		},
		contractions: []rule{
			{"cC", contraction("can", "not")},
			{"'", contraction("d", "'ye")},
			{"gG", contraction("gim", "me")},
			{"gG", contraction("gon", "na")},
			{"gG", contraction("got", "ta")},
			{"lL", contraction("lem", "me")},
			{"'", contraction("more", "'n")},
			{"wW", contraction("wan", "na")},
			re("'", `(?i) ('t)(is)\b`, " $1 $2 "),
			re("'", `(?i) ('t)(was)\b`, " $1 $2 "),
		},
	}, nil
}

// WordTokenize returns the words and punctuation marks of text. Quotation
// marks come back as “ and ”, as in the Penn Treebank.
func (t *Tokenizer) WordTokenize(text string) []string {
	var words []string
	for _, sentence := range t.punkt.split(text) {
		words = append(words, t.treebank(sentence)...)
	}
	return words
}

// treebank is NLTKWordTokenizer.tokenize.
func (t *Tokenizer) treebank(s string) []string {
	for _, rules := range [][]rule{t.starting, t.punctuation} {
		s = rewrite(s, rules)
	}
	s = rewrite(" "+s+" ", t.ending)
	return strings.FieldsFunc(rewrite(s, t.contractions), isSpace)
}

func rewrite(s string, rules []rule) string {
	for _, r := range rules {
		if strings.ContainsAny(s, r.trigger) {
			s = r.apply(s)
		}
	}
	return s
}

// padder puts a space on either side of each of the characters.
func padder(chars string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if strings.ContainsRune(chars, r) {
				b.WriteByte(' ')
				b.WriteRune(r)
				b.WriteByte(' ')
			} else {
				b.WriteRune(r)
			}
		}
		return b.String()
	}
}

// openQuote is `(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b` → `\1 \2`: a quote is cut
// from a lone character that is no clitic.
func openQuote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		b.WriteString(s[i : i+n])
		if s[i] == '\'' {
			r, size := runeAt(s, i+1)
			if size > 0 && isWord(r) && !strings.ContainsRune("mMtTsSdDnN", r) && wordBoundary(s, i+1+size) {
				b.WriteByte(' ')
				b.WriteString(s[i+1 : i+1+size])
				n += size
			}
		}
		i += n
	}
	return b.String()
}

// contraction is `(?i)\b(head)(tail)\b` → ` \1 \2 ` with Unicode word
// boundaries. NLTK cuts "wanna" only before white space, where a boundary
// would do for the others.
func contraction(head, tail string) func(string) string {
	word := head + tail
	return func(s string) string {
		var b strings.Builder
		from := 0
		for i := 0; i+len(word) <= len(s); i++ {
			end := i + len(word)
			if !strings.EqualFold(s[i:end], word) || !wordBoundary(s, i) {
				continue
			}
			if r, n := runeAt(s, end); word == "wanna" && !(n > 0 && isSpace(r)) || word != "wanna" && !wordBoundary(s, end) {
				continue
			}
			b.WriteString(s[from:i])
			b.WriteString(" " + s[i:i+len(head)] + " " + s[i+len(head):end] + " ")
			from, i = end, end-1
		}
		if from == 0 {
			return s
		}
		b.WriteString(s[from:])
		return b.String()
	}
}
