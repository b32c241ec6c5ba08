package main

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// board keeps a few lines at the bottom of a terminal and paints them anew as they
// change. Whatever else is written goes through it, too, and stands above them.
type board struct {
	mu    sync.Mutex
	out   io.Writer
	size  func() (width, height int)
	lines []string // on the screen now
}

func newBoard(out io.Writer) *board {
	b := &board{}
	b.use(out)
	return b
}

// use makes the board paint on another stream.
func (b *board) use(out io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out = out
	b.size = func() (width, height int) {
		if f, ok := fileOf(out); ok {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
				return w, h
			}
		}
		return 80, 24
	}
}

// Write writes above the board's lines; p ends with a line's end.
func (b *board) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	n, err := b.out.Write(p)
	b.draw(b.lines)
	return n, err
}

// paint replaces the board's lines by those that make gives for a width; what is
// too wide or too many is cut.
func (b *board) paint(make func(width int) []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	width, height := b.size()
	lines := make(width - 1) // the last column makes some terminals wrap
	if most := max(height-1, 1); len(lines) > most {
		lines = append(lines[:most-1:most-1], fmt.Sprintf("and %d more", len(lines)-most+1))
	}
	for i, line := range lines {
		lines[i] = cut(line, width-1)
	}
	b.clear()
	b.draw(lines)
}

// close takes the lines away.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	b.lines = nil
}

// clear removes the lines from the screen, which may have become narrower since.
func (b *board) clear() {
	width, _ := b.size()
	rows := 0
	for _, line := range b.lines {
		rows += max(1, (text.StringWidthWithoutEscSequences(line)+width-1)/width)
	}
	if rows > 0 {
		fmt.Fprintf(control(b.out), "\r\x1b[%dA\x1b[J", rows)
	}
}

func (b *board) draw(lines []string) {
	b.lines = lines
	if len(lines) > 0 {
		io.WriteString(b.out, strings.Join(lines, "\n")+"\n")
	}
}

// cut shortens a line to a width; dots say that it goes on.
func cut(line string, width int) string {
	if text.StringWidthWithoutEscSequences(line) <= width {
		return line
	}
	return text.Trim(line, max(width-1, 0)) + "…"
}
