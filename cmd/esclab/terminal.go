package main

import (
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"

	"github.com/esclab/esclab/esc"
)

// stdout and stderr are where commands write. Names, messages and texts come from
// files, from Temporal and from the store, and no command has to know which of
// them a terminal might obey.
var stdout, stderr = streamOf(os.Stdout), streamOf(os.Stderr)

// streamOf is a stream of this process, and where it is a terminal one that shows
// what is printable.
func streamOf(f *os.File) io.Writer {
	if !onTerminal(f) {
		return f
	}
	return &printer{file: f, out: f}
}

// printer writes what is printable, and the sequences that this program makes.
type printer struct {
	file *os.File
	out  io.Writer
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
	if _, err := io.WriteString(t.out, shown.String()); err != nil {
		return 0, err
	}
	return len(p), nil
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
