package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/esclab/esclab/esc"
)

// stdout and stderr are where commands write. Names, messages and texts come from
// files, from Temporal and from the store, and no command has to know which of
// them a terminal might obey.
var stdout, stderr = streamOf(os.Stdout), streamOf(os.Stderr)

// streamOf is a stream of this process, and where it is a terminal one that shows
// what is printable, in lines that break between words.
func streamOf(f *os.File) io.Writer {
	if !onTerminal(f) {
		return f
	}
	return &printer{file: f, out: f, columns: func() int {
		width, _, _ := term.GetSize(int(f.Fd())) // 0 where it is unknown: lines stay as they are
		return width
	}}
}

// printer writes what is printable, and the sequences that this program makes.
type printer struct {
	file    *os.File
	out     io.Writer
	columns func() int

	mu     sync.Mutex
	within bool // what was written last is not a line's end
}

// ownSequences are colours, bold and links: what data may hold of them does no harm.
var ownSequences = regexp.MustCompile(`\x1b\[(?:[0-4]|[39][0-7])?(?:;(?:[0-4]|[39][0-7]))*m` + `|\x1b\]8;;(?:(?:file|https?)://[!-~]*)?\x1b\\`)

func (t *printer) Write(p []byte) (int, error) {
	var shown strings.Builder
	rest := string(p)
	for rest != "" {
		at := ownSequences.FindStringIndex(rest)
		if at == nil {
			at = []int{len(rest), len(rest)}
		}
		shown.WriteString(esc.Printable(rest[:at[0]]))
		shown.WriteString(rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.SplitAfter(shown.String(), "\n")
	for i, line := range lines[:len(lines)-1] {
		if i > 0 || !t.within {
			lines[i] = flowed(line, t.columns())
		}
	}
	if shown.Len() > 0 {
		t.within = lines[len(lines)-1] != ""
	}
	if _, err := io.WriteString(t.out, strings.Join(lines, "")); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flowed makes a line that is wider than a terminal break between its words, with
// spaces up to the terminal's last column: a command that is copied from there is one
// line, as it would not be with a line's end in it.
func flowed(line string, width int) string {
	columns := func(s string) int {
		return text.StringWidthWithoutEscSequences(ownSequences.ReplaceAllString(strings.TrimRight(s, " \n"), ""))
	}
	if width <= 0 || columns(line) <= width {
		return line
	}
	var b strings.Builder
	at := 0
	for word := range strings.SplitAfterSeq(line, " ") {
		if n := columns(word); at > 0 && at+n >= width && n < width {
			b.WriteString(strings.Repeat(" ", max(width-at, 0)))
			at = 0
		}
		b.WriteString(word)
		if at += columns(word) + strings.Count(word, " "); at > width {
			at = (at-1)%width + 1
		}
	}
	return b.String()
}

// control is a stream for what moves a terminal's cursor. No data belong there.
func control(out io.Writer) io.Writer {
	if t, ok := out.(*printer); ok {
		return t.out
	}
	return out
}

// fileOf is the file behind a stream.
func fileOf(out io.Writer) (*os.File, bool) {
	if t, ok := out.(*printer); ok {
		return t.file, true
	}
	f, ok := out.(*os.File)
	return f, ok
}

// onTerminal tells whether people see what is written, as it is written.
func onTerminal(out io.Writer) bool {
	f, ok := fileOf(out)
	return ok && term.IsTerminal(int(f.Fd()))
}
