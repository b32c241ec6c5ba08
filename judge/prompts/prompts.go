// Package prompts holds what a language model is asked when it judges: the text
// files of a protocol in the project's own wording of the paper's definitions (Appendix
// A.2 and C.3, Table 8), and how a directory of one's own replaces them.
//
// A file is the system message, a line "---", and the user message. In both,
// {{name}} stands for what is filled in; the names are those of Placeholders.
package prompts

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Task is something that a judge is asked to do; NAME.txt holds its prompt.
type Task string

const (
	Errors     Task = "errors"     // which psychological errors a reply makes, each with a degree
	Scores     Task = "scores"     // the four criteria of Table 8 at once
	Preference Task = "preference" // which of two replies is better

	Fluency         Task = "fluency" // one criterion, beside the gold reply
	Professionalism Task = "professionalism"
	Empathy         Task = "empathy"
	Helpfulness     Task = "helpfulness"
	Class           Task = "class"  // the one psychological error of a reply, or none
	Filter          Task = "filter" // that of the gold reply and of another at once, of the three that make pairs
)

// Protocol says in which questions a judge is asked.
type Protocol string

const (
	Joint Protocol = "joint" // all criteria in one question, all errors in another
	Paper Protocol = "paper" // as in the paper: beside the gold reply, one criterion or one label a question
)

// Tasks lists the protocol's tasks in the order of their files; none for an
// unknown protocol.
func (p Protocol) Tasks() []Task {
	switch p {
	case Joint:
		return []Task{Errors, Preference, Scores}
	case Paper:
		return []Task{Class, Empathy, Filter, Fluency, Helpfulness, Preference, Professionalism}
	}
	return nil
}

// File is the name of the task's file.
func (t Task) File() string { return string(t) + ".txt" }

// maxBytes bounds a set of prompts: it travels in the parameters of stages.
const maxBytes = 24 << 10

// placeholders of each task: true for those that a prompt cannot do without.
var placeholders = map[Task]map[string]bool{
	Errors:     {"context": true, "response": true, "format": true, "strategy": true, "strategies": false, "definitions": false},
	Scores:     {"context": true, "response": true, "format": true, "strategy": false, "strategies": false},
	Preference: {"context": true, "first": true, "second": true, "format": true},

	Fluency: criterion, Professionalism: criterion, Empathy: criterion, Helpfulness: criterion,
	Class:  {"context": true, "response": true, "format": true, "gold": false, "strategy": false, "strategies": false, "definitions": false},
	Filter: {"context": true, "response": true, "gold": true, "format": true, "strategy": false, "strategies": false, "definitions": false},
}

var criterion = map[string]bool{"context": true, "response": true, "gold": true, "format": true, "strategy": false, "strategies": false}

// Placeholders lists the names that a task's prompt may hold, sorted.
func Placeholders(t Task) []string {
	var names []string
	for name := range placeholders[t] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Set is a checked set of prompts, one for each task of its protocol.
type Set struct {
	protocol Protocol
	files    map[Task]string
}

// Protocol is the one whose tasks the set has prompts for.
func (s Set) Protocol() Protocol { return s.protocol }

//go:embed builtin
var builtin embed.FS

// Builtin returns the project's own prompts for a protocol. Those of a task that
// protocols have in common stand beside the protocols' directories.
func Builtin(protocol Protocol) (Set, error) {
	texts := make(map[string]string, len(placeholders))
	for _, t := range protocol.Tasks() {
		data, err := builtin.ReadFile("builtin/" + string(protocol) + "/" + t.File())
		if errors.Is(err, fs.ErrNotExist) {
			data, err = builtin.ReadFile("builtin/" + t.File())
		}
		if err != nil {
			return Set{}, fmt.Errorf("judge prompts: %w", err)
		}
		texts[t.File()] = string(data)
	}
	return New(protocol, texts)
}

// New checks a protocol's prompts, which are given by their files' names.
func New(protocol Protocol, texts map[string]string) (Set, error) {
	s := Set{protocol: protocol, files: make(map[Task]string, len(texts))}
	size := 0
	tasks := protocol.Tasks()
	if len(tasks) == 0 {
		return Set{}, fmt.Errorf("judge prompts: unknown protocol %q; it is %s or %s", protocol, Joint, Paper)
	}
	var names []string
	for _, t := range tasks {
		names = append(names, t.File())
	}
	files := strings.Join(names, ", ")
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if !slices.Contains(names, name) {
			return Set{}, fmt.Errorf("judge prompts: %s is not one of protocol %s: %s", name, protocol, files)
		}
	}
	for _, t := range tasks {
		text, ok := texts[t.File()]
		if !ok {
			return Set{}, fmt.Errorf("judge prompts: %s is missing; a set of prompts for protocol %s has %s", t.File(), protocol, files)
		}
		size += len(text)
		text = strings.ReplaceAll(text, "\r\n", "\n")
		if err := check(t, text); err != nil {
			return Set{}, fmt.Errorf("judge prompts: %s: %w", t.File(), err)
		}
		s.files[t] = text
	}
	if size > maxBytes {
		return Set{}, fmt.Errorf("judge prompts: %d bytes together; at most %d", size, maxBytes)
	}
	return s, nil
}

// separator divides the system message from the user message.
const separator = "\n---\n"

var placeholder = regexp.MustCompile(`\{\{[^{}]*\}\}`)

func check(t Task, text string) error {
	if strings.Count(text, separator) != 1 {
		return errors.New(`it needs exactly one line "---" between the system message and the user message`)
	}
	known := placeholders[t]
	found := map[string]bool{}
	for _, match := range placeholder.FindAllString(text, -1) {
		name := match[2 : len(match)-2]
		if _, ok := known[name]; !ok {
			return fmt.Errorf("unknown placeholder %.40s; there are {{%s}}", match, strings.Join(Placeholders(t), "}}, {{"))
		}
		found[name] = true
	}
	if rest := placeholder.ReplaceAllString(text, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return errors.New("a brace of a placeholder is not closed")
	}
	for _, name := range Placeholders(t) {
		if known[name] && !found[name] {
			return fmt.Errorf("placeholder {{%s}} is missing: the judge would not see it", name)
		}
	}
	return nil
}

// Fill gives the two messages of a task. What is filled in is not looked
// through for placeholders again.
func (s Set) Fill(t Task, values map[string]string) (system, user string, err error) {
	text, ok := s.files[t]
	if !ok {
		return "", "", fmt.Errorf("judge prompts: no prompt for task %q", t)
	}
	var pairs []string
	for _, name := range Placeholders(t) {
		value, given := values[name]
		if !given && strings.Contains(text, "{{"+name+"}}") {
			return "", "", fmt.Errorf("judge prompts: %s: nothing to put for {{%s}}", t.File(), name)
		}
		pairs = append(pairs, "{{"+name+"}}", value)
	}
	before, after, _ := strings.Cut(text, separator)
	fill := strings.NewReplacer(pairs...)
	return strings.TrimSpace(fill.Replace(before)), strings.TrimSpace(fill.Replace(after)), nil
}

// Digest is the SHA-256 of the set in lower-case hexadecimal. It is part of
// what names a judge.
func (s Set) Digest() string {
	h := sha256.New()
	for _, t := range s.protocol.Tasks() {
		fmt.Fprintf(h, "%s\n%d\n%s\n", t.File(), len(s.files[t]), s.files[t])
	}
	return hex.EncodeToString(h.Sum(nil))
}
