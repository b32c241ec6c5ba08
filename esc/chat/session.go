package chat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/esclab/esclab/esc"
)

// maxMessage is the longest message in bytes, as esc.DefaultLimits has it for a
// text of a corpus.
const maxMessage = 64 << 10

// Session is a conversation by lines: a person's on one side, the model's on
// the other.
type Session struct {
	Conversation *Conversation
	In           io.Reader
	Out          io.Writer
	// About says whom one talks with: the run and the system.
	About string
	// Prompt is shown before each line that is read; "" where nobody types.
	Prompt string
	// Deterministic is true where writing a reply anew gives the same one.
	Deterministic bool

	broken error // of the output
}

const help = `Say what is on the seeker's mind; the model replies as the supporter. A line that
begins with / is a command:

  /strategy NAME   the strategy of the next reply, or of /regenerate: a name or
                   two letters, such as Question or RF; /strategy auto takes it
                   back, /strategy alone lists them
  /regenerate      another reply to the last message
  /undo            take the last message and its reply back
  /save FILE       write the conversation as JSON
  /help            this
  /quit            leave; so does the end of the input
`

// errQuit ends a session.
var errQuit = errors.New("quit")

// Run reads lines until the end of the input, /quit or the context's end. A wrong
// command is answered with what is wrong and changes nothing. An error of the
// model or of the output ends the session.
func (s *Session) Run(ctx context.Context) error {
	s.say("%s\n\n%s\n/help lists the commands.\n\n", Note, s.About)
	lines, stop := readLines(ctx, s.In)
	defer stop()
	for {
		if s.Prompt != "" {
			s.say("%s", s.Prompt)
		}
		if s.broken != nil {
			return s.broken
		}
		var line input
		select {
		case line = <-lines:
		case <-ctx.Done():
			return ctx.Err()
		}
		if line.err != nil {
			if errors.Is(line.err, io.EOF) {
				return nil
			}
			return line.err
		}
		text := strings.TrimSpace(line.text)
		if text == "" {
			continue
		}
		var err error
		if command, is := strings.CutPrefix(text, "/"); is {
			err = s.command(ctx, command)
		} else {
			_, err = s.Conversation.Say(ctx, text, s.watcher())
			s.end(err)
		}
		switch {
		case errors.Is(err, errQuit):
			return nil
		case err != nil:
			return err
		}
	}
}

func (s *Session) say(format string, args ...any) {
	if _, err := fmt.Fprintf(s.Out, format, args...); err != nil && s.broken == nil {
		s.broken = fmt.Errorf("write to the person: %w", err)
	}
}

// command does what a line after "/" says.
func (s *Session) command(ctx context.Context, line string) error {
	name, argument, _ := strings.Cut(line, " ")
	argument = strings.TrimSpace(argument)
	switch strings.ToLower(name) {
	case "strategy", "s":
		s.strategy(argument)
	case "regenerate", "r":
		if s.Deterministic && !s.Conversation.Force.Valid() {
			s.say("This run takes the likeliest word each time: the reply would be the same. Start with --temperature 0.7, or force a strategy.\n")
			return nil
		}
		_, err := s.Conversation.Again(ctx, s.watcher())
		if errors.Is(err, ErrNothing) {
			s.say("There is no reply yet.\n")
			return nil
		}
		s.end(err)
		return err
	case "undo":
		e, err := s.Conversation.Undo()
		if err != nil {
			s.say("There is nothing to undo.\n")
			return nil
		}
		s.say("Taken back: %q and its reply.\n", esc.Printable(e.Message))
	case "save":
		s.save(argument)
	case "help", "h", "?":
		s.say("%s", help)
	case "quit", "q", "exit":
		return errQuit
	default:
		s.say("There is no command /%s; /help lists them.\n", esc.Printable(name))
	}
	return nil
}

// strategy forces the next reply's, or lists them.
func (s *Session) strategy(name string) {
	if name == "" {
		for _, strategy := range esc.Strategies() {
			mark := " "
			if strategy == s.Conversation.Force {
				mark = "*"
			}
			s.say("%s %s  %-28s %s\n", mark, strategy.Abbreviation(), strategy, strategy.Definition())
		}
		return
	}
	if strings.EqualFold(name, "auto") {
		s.Conversation.Force = esc.NoStrategy
		s.say("The planner chooses again.\n")
		return
	}
	strategy, err := esc.TypedStrategy(name)
	if err != nil {
		s.say("%s\n", esc.Printable(err.Error()))
		return
	}
	s.Conversation.Force = strategy
	s.say("The next reply is %s.\n", strategy.Bracketed())
}

// save writes the conversation into a new file.
func (s *Session) save(path string) {
	if path == "" {
		s.say("Name a file: /save talk.json\n")
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // what people say to it is their own business
	if err == nil {
		err = errors.Join(s.Conversation.Save(f, s.About), f.Close())
	}
	if err != nil {
		s.say("Not saved: %v\n", err)
		return
	}
	s.say("Saved %d exchanges in %s.\n", len(s.Conversation.Exchanges), path)
}

// watcher shows a reply as it comes.
func (s *Session) watcher() Watcher {
	begun := false
	return Watcher{
		Planned: func(e Exchange) { s.say("%s\n%s ", planLine(e), e.Strategy.Bracketed()) },
		Text: func(text string) {
			if !begun { // the answer's first word comes with its space
				text = strings.TrimLeftFunc(text, unicode.IsSpace)
				begun = text != ""
			}
			s.say("%s", esc.Printable(text))
		},
	}
}

// end closes the line of a reply.
func (s *Session) end(err error) {
	if err == nil {
		if e := s.Conversation.Exchanges[len(s.Conversation.Exchanges)-1]; e.Cut {
			s.say(" …")
		}
	}
	s.say("\n\n")
}

// planLine says what was planned, the likeliest first, and what was taken.
func planLine(e Exchange) string {
	order := esc.Strategies()
	slices.SortStableFunc(order, func(a, b esc.Strategy) int {
		switch p := e.Plan.Probabilities; {
		case p[a] > p[b]:
			return -1
		case p[a] < p[b]:
			return 1
		}
		return 0
	})
	var parts []string
	for _, s := range order {
		parts = append(parts, fmt.Sprintf("%s %.0f %%", s.Abbreviation(), 100*e.Plan.Probabilities[s]))
	}
	line := fmt.Sprintf("planned %s: %s", e.Plan.Best(), strings.Join(parts, ", "))
	if e.Plan.Mass < 0.5 {
		line += fmt.Sprintf(" (of the %.0f %% that the model gives to strategies at all)", 100*e.Plan.Mass)
	}
	if e.Forced {
		line += "; forced " + e.Strategy.String()
	}
	return line
}

// input is a line that was read, or why there is none.
type input struct {
	text string
	err  error
}

// readLines reads beside the caller, so that a cancelled context ends a session
// even where nobody types; the reader is then left to the end of the process.
func readLines(ctx context.Context, in io.Reader) (<-chan input, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	lines := make(chan input)
	go func() {
		send := func(i input) bool {
			select {
			case lines <- i:
				return i.err == nil
			case <-ctx.Done():
				return false
			}
		}
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 4<<10), maxMessage)
		for scanner.Scan() {
			if !send(input{text: strings.ToValidUTF8(scanner.Text(), "\ufffd")}) {
				return
			}
		}
		err := scanner.Err()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			err = fmt.Errorf("a message of more than %d KiB: say it in parts", maxMessage>>10)
		case err == nil:
			err = io.EOF
		}
		send(input{err: err})
	}()
	return lines, stop
}
