// Package inert writes text that may hold anything, such as names, messages
// and dialogues, so that the formats of reports show it and do nothing with it.
package inert

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// marks has every character with which inline Markdown begins. The colon of an
// address and the @ of another are there because GitHub makes links of them
// without being asked.
var marks = []string{
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "|", `\|`, "~", `\~`, "#", `\#`, "$", `\$`, "!", `\!`,
	"://", `\://`, "www.", `www\.`, "@", `\@`,
}

// HTML, which Markdown may hold, is escaped in a file so that renderers without
// that freedom do no harm either. Temporal's web UI shows entities as they are.
var (
	inFile = strings.NewReplacer(append([]string{"&", "&amp;", "<", "&lt;", ">", "&gt;"}, marks...)...)
	onPage = strings.NewReplacer(append([]string{"&", `\&`, "<", `\<`, ">", `\>`}, marks...)...)
)

// block is what makes a list, a rule or a heading at the beginning of a line.
var block = regexp.MustCompile(`^([-+=]+|[0-9]+[.)])( |$)`)

// Markdown writes text so that Markdown, in a line or in a table's cell, shows
// it as it is, on one line; line ends and control characters become spaces.
func Markdown(text string) string { return write(inFile, text) }

// Page is Markdown for Temporal's web UI.
func Page(text string) string { return write(onPage, text) }

// Code writes text as a code span, on one line. Text that a code span cannot
// hold, in a table or at all, is written as Markdown does; "" stays "".
func Code(text string) string { return code(inFile, text) }

// PageCode is Code for Temporal's web UI.
func PageCode(text string) string { return code(onPage, text) }

// inWord is an underscore within a word, which emphasises nothing: names of
// metrics stay as they are where Markdown is read as it is written.
var inWord = regexp.MustCompile(`([0-9A-Za-z])\\_([0-9A-Za-z])`)

func write(characters *strings.Replacer, text string) string {
	text = characters.Replace(strings.TrimLeft(line(text), " "))
	for range 2 { // a letter between two underscores belongs to both
		text = inWord.ReplaceAllString(text, "${1}_${2}")
	}
	if at := block.FindStringSubmatchIndex(text); at != nil {
		last := at[3] - 1 // the marker's last character
		if first := text[0]; first < '0' || first > '9' {
			last = 0
		}
		text = text[:last] + `\` + text[last:]
	}
	return text
}

func code(characters *strings.Replacer, text string) string {
	if text = line(text); text == "" || strings.ContainsAny(text, "`|") {
		return write(characters, text)
	}
	return "`" + text + "`"
}

// Cell writes text for a cell of a CSV file so that no spreadsheet takes it for
// a formula: an apostrophe goes before what begins like one, also after white
// space, which some programs drop. Numbers stay as they are.
func Cell(text string) string {
	begins := strings.TrimLeft(text, " \t\r\n")
	formula := begins != "" && strings.ContainsRune("=+-@", rune(begins[0])) || strings.HasPrefix(text, "\t") || strings.HasPrefix(text, "\r")
	if !formula {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}

// Cells is Cell of each.
func Cells(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = Cell(t)
	}
	return out
}

// line puts text on one line.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ReplaceAll(text, "\r\n", "\n"))
}
