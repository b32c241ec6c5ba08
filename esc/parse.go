package esc

import (
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Parsed is a generated answer taken apart. Where OK is false, Reason says
// what is missing, and the fields hold what could be read: Strategy may be
// NoStrategy, Response may be the whole text.
type Parsed struct {
	Strategy Strategy
	Response string
	OK       bool
	Reason   string
}

// strategyAliases are spellings that models are known to write.
var strategyAliases = map[string]Strategy{
	"questions":                    Question,
	"restatement":                  Restatement,
	"paraphrasing":                 Restatement,
	"paraphrase":                   Restatement,
	"restatement and paraphrasing": Restatement,
	"restatement/paraphrasing":     Restatement,
	"reflection":                   Reflection,
	"reflection of feeling":        Reflection,
	"reflecting feelings":          Reflection,
	"self disclosure":              SelfDisclosure,
	"affirmation":                  Affirmation,
	"reassurance":                  Affirmation,
	"affirmation & reassurance":    Affirmation,
	"affirmation or reassurance":   Affirmation,
	"suggestion":                   Suggestions,
	"suggestions":                  Suggestions,
	"providing suggestion":         Suggestions,
	"provide suggestions":          Suggestions,
	"providing information":        Information,
	"other":                        Others,
}

// StrategySpellings gives the spellings that ParseAnswer reads besides the eight
// names, in lower case.
func StrategySpellings() map[string]Strategy { return maps.Clone(strategyAliases) }

func lookupStrategy(name string) Strategy {
	if s, err := ParseStrategy(name); err == nil {
		return s
	}
	if s, known := strategyAliases[foldName(name)]; known {
		return s
	}
	return NoStrategy
}

// ParseAnswer takes a role's generated text apart. For vm and sp it looks for
// a strategy at the start: in square brackets, with a bracket missing, or as a
// bare name that a colon, a dash or the end of the line closes; case, markup
// (**, quotes) and a leading "Strategy:" do not matter. For rg the whole text
// is the response, without a strategy repeated at its start. It never guesses
// a misspelled name.
func ParseAnswer(role Role, text string) Parsed {
	text = strings.TrimSpace(text)
	if role == RG {
		response := text
		if strategy, rest, bracketed := cutStrategy(text); strategy.Valid() && bracketed {
			response = rest
		}
		if response == "" {
			return Parsed{Strategy: NoStrategy, Reason: "the response is empty"}
		}
		return Parsed{Strategy: NoStrategy, Response: response, OK: true}
	}
	if text == "" {
		return Parsed{Strategy: NoStrategy, Reason: "the answer is empty"}
	}
	strategy, rest, bracketed := cutStrategy(text)
	if !strategy.Valid() {
		reason := "no strategy at the start"
		if bracketed {
			name, _, _ := strings.Cut(strings.TrimLeft(text, "[*\"'` "), "]")
			reason = "unknown strategy " + quoteShort(name) + "; the nearest is " + NearestStrategy(name).String()
		}
		return Parsed{Strategy: NoStrategy, Response: text, Reason: reason}
	}
	if role == SP {
		return Parsed{Strategy: strategy, OK: true}
	}
	if rest == "" {
		return Parsed{Strategy: strategy, Reason: "no response after the strategy"}
	}
	return Parsed{Strategy: strategy, Response: rest, OK: true}
}

// AuthorsStrategy reads a strategy as the paper's authors' code does: what stands
// between the first [ and the first ] anywhere in the text, which has to be one of
// the eight names to the letter, but for upper and lower case. ParseAnswer reads
// more ways to write a name, at the start alone.
func AuthorsStrategy(text string) Strategy {
	start, end := strings.IndexByte(text, '['), strings.IndexByte(text, ']')
	if start < 0 || end < start {
		return NoStrategy
	}
	for _, s := range Strategies() {
		if strings.EqualFold(text[start+1:end], s.String()) {
			return s
		}
	}
	return NoStrategy
}

// cutStrategy splits a leading strategy off. bracketed tells that the text
// opens or closes a square bracket there, whether the name is known or not.
func cutStrategy(text string) (strategy Strategy, rest string, bracketed bool) {
	const markup = "*_\"'`#> \t"
	head := strings.TrimLeft(text, markup)
	opened := strings.HasPrefix(head, "[")
	head = strings.TrimLeft(head, "["+markup)
	for _, label := range []string{"the strategy is", "reply strategy", "strategy"} {
		if len(head) >= len(label) && strings.EqualFold(head[:len(label)], label) {
			if after := strings.TrimLeft(head[len(label):], markup+":"); after != "" && after != head {
				head = after
			}
			break
		}
	}
	opened = opened || strings.HasPrefix(head, "[")
	body := strings.TrimLeft(head, "["+markup)

	// With a closing bracket within reach of the longest name, the name is
	// what stands before it.
	if end := strings.IndexByte(body, ']'); end >= 0 && end <= 48 && !strings.ContainsRune(body[:end], '\n') {
		if s := lookupStrategy(strings.Trim(body[:end], markup)); s.Valid() {
			return s, trimRest(body[end+1:]), true
		}
		if opened {
			return NoStrategy, "", true
		}
	}
	s, length := longestName(body)
	if s == NoStrategy {
		return NoStrategy, "", opened
	}
	after := strings.TrimLeft(body[length:], markup)
	closed := after == "" || strings.ContainsRune(":-–—\n", firstRune(after)) || strings.HasPrefix(body[length:], "\n")
	if !opened && !closed {
		return NoStrategy, "", false // an ordinary sentence that begins with the word
	}
	return s, trimRest(after), opened
}

// longestName finds the longest known name that body begins with and that a
// letter does not continue.
func longestName(body string) (Strategy, int) {
	best, length := NoStrategy, 0
	try := func(name string, s Strategy) {
		if len(name) <= length || len(body) < len(name) || !strings.EqualFold(body[:len(name)], name) {
			return
		}
		if r := firstRune(body[len(name):]); unicode.IsLetter(r) || unicode.IsDigit(r) {
			return
		}
		best, length = s, len(name)
	}
	for i, name := range strategyNames {
		try(name, Strategy(i))
	}
	for name, s := range strategyAliases { // order does not matter: names differ, so lengths decide
		try(name, s)
	}
	return best, length
}

// trimRest drops what closes the name (markup, a colon, a dash) but leaves a
// response that begins with ":)" alone.
func trimRest(rest string) string {
	rest = strings.TrimLeft(rest, "]* \t\n")
	for _, mark := range []string{":", "-", "–", "—"} {
		after, found := strings.CutPrefix(rest, mark)
		if r := firstRune(after); found && (unicode.IsSpace(r) || unicode.IsLetter(r) || r == '*' || r == '"') {
			return strings.TrimSpace(strings.TrimLeft(after, "* \t\n"))
		}
	}
	return strings.TrimSpace(rest)
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}
