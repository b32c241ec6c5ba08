package judge

import (
	"strings"
	"unicode"
)

// words splits text into lower-case words; apostrophes vanish ("don't" becomes
// "dont"), everything else that is not a letter or digit separates.
func words(text string) []string {
	var list []string
	var word strings.Builder
	flush := func() {
		if word.Len() > 0 {
			list = append(list, word.String())
			word.Reset()
		}
	}
	for _, r := range text {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			word.WriteRune(unicode.ToLower(r))
		case r == '\'' || r == '’' || r == '`':
		default:
			flush()
		}
	}
	flush()
	return list
}

// phrases is a text prepared for looking up words and phrases.
type phrases struct {
	words []string
	text  string // " word word word "
}

func prepare(text string) phrases { return joined(words(text)) }

func joined(list []string) phrases { return phrases{list, " " + strings.Join(list, " ") + " "} }

// lexicon is a list of words and phrases, each between blanks, as in
// phrases.text.
type lexicon []string

// find returns the first entry of the list that occurs as whole words, "" if
// none does.
func (p phrases) find(list lexicon) string {
	for _, entry := range list {
		if strings.Contains(p.text, entry) {
			return strings.TrimSpace(entry)
		}
	}
	return ""
}

func (p phrases) has(list lexicon) bool { return p.find(list) != "" }

// begins reports whether the text begins with an entry.
func (p phrases) begins(list lexicon) bool {
	for _, entry := range list {
		if strings.HasPrefix(p.text, entry) {
			return true
		}
	}
	return false
}

// in returns the words that are in a set, each once, in order.
func (p phrases) in(set map[string]bool) []string {
	var found []string
	seen := map[string]bool{}
	for _, w := range p.words {
		if set[w] && !seen[w] {
			seen[w] = true
			found = append(found, w)
		}
	}
	return found
}

// stem cuts common endings, so that "working" and "worked" meet.
func stem(word string) string {
	for _, ending := range []string{"ing", "edly", "ed", "ies", "es", "ly", "s"} {
		if cut, ok := strings.CutSuffix(word, ending); ok && len(cut) >= 3 {
			return cut
		}
	}
	return word
}

// content returns the stems of the words that carry meaning.
func (p phrases) content() map[string]bool {
	set := map[string]bool{}
	for _, w := range p.words {
		if len(w) > 2 && !functionWords[w] {
			set[stem(w)] = true
		}
	}
	return set
}

func common(a, b map[string]bool) int {
	n := 0
	for w := range a {
		if b[w] {
			n++
		}
	}
	return n
}

func set(list string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(list) {
		m[w] = true
	}
	return m
}

// lines reads a list separated by commas and line breaks.
func lines(list string) lexicon {
	var entries lexicon
	for _, line := range strings.Split(list, "\n") {
		for _, entry := range strings.Split(line, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				entries = append(entries, " "+entry+" ")
			}
		}
	}
	return entries
}
