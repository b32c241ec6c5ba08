// Command esclab runs a whole preference-optimization paper as a durable DAG:
// supervised fine-tuning, Inferential Preference Mining, DPO, generation,
// evaluation and report.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workflows/lab"
)

// version is set by the linker.
var version = "dev"

// Exit codes, documented in the help of every command.
const (
	exitOK          = 0
	exitFailed      = 1   // the work was done and failed: a stage, a check
	exitUsage       = 2   // wrong flags, an invalid experiment or input file
	exitUnreachable = 3   // Temporal, the store or a port cannot be used
	exitInterrupted = 130 // Ctrl-C
	// 4 is crash.ExitCode: the process has crashed.
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second Ctrl-C ends the program at once
	}()
	os.Exit(execute(ctx, os.Args[1:]))
}

// execute runs one command line and gives the process's exit code.
func execute(ctx context.Context, args []string) int {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	a := &app{fail: fail}
	if filepath.Base(os.Args[0]) == "esclab" { // else it is a test
		a.program = os.Args[0]
	}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var died *codedError
	switch {
	case errors.As(context.Cause(ctx), &died):
		err = died
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "esclab:", err)
	return exitCode(err)
}

// exitCode is the exit code of an error: the one that a command gives it, that
// of an error of the lab, or that of a wrong request.
func exitCode(err error) int {
	var coded *codedError
	var ofLab *lab.Error
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &ofLab) && ofLab.Unreachable:
		return exitUnreachable
	case ofLab != nil:
		return exitFailed
	}
	return exitUsage
}

// codedError carries the exit code of a failure.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func failed(err error) error      { return withCode(exitFailed, err) }
func unreachable(err error) error { return withCode(exitUnreachable, err) }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codedError{code: code, err: err}
}

// app is what the commands share: the flags and what was made of them.
type app struct {
	program    string // what hints call it by; "": esclab
	configPath string
	dataDir    string
	logLevel   string
	metrics    string // address of metrics and health; empty: none
	log        zerolog.Logger
	board      *board                  // where progress is shown; on a terminal logs pass it
	fail       context.CancelCauseFunc // ends the command by an error with its exit code
}

// watch ends the command when a server of the stack that it has started is gone.
func (a *app) watch(ctx context.Context, s *stack.Stack) {
	if s == nil || a.fail == nil {
		return
	}
	go func() {
		select {
		case err := <-s.Failed():
			a.fail(unreachable(err))
		case <-ctx.Done():
		}
	}()
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "esclab",
		Short: "Run the DecoupledESC paper as a durable DAG",
		Long: `esclab runs a preference-optimization paper for emotional support conversation
as a durable DAG on Temporal: corpus, base, SFT, Inferential Preference Mining,
DPO, generation, scores, judge, bias and report. What is done is never done
twice, and a killed machine costs at most the steps since the last checkpoint.

Begin with

  esclab run demo            the whole paper on a small sample corpus
  esclab run demo --plan     what that would do, and what is already done
  esclab up                  Temporal, its web UI and the store, kept running

Exit codes: 0 done; 1 a stage or a check failed; 2 wrong flags or an invalid
input; 3 Temporal, the store or a port cannot be used; 4 crashed; 130 interrupted.`,
		Version:           version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return a.setup(c.Name()) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "where Temporal and S3 are (default: temporal.yaml here, if there is one; $ESCLAB_CONFIG)")
	flags.StringVar(&a.dataDir, "data", "", "data directory of the embedded stack (default: $ESCLAB_DATA_DIR or ~/.local/share/esclab)")
	flags.StringVar(&a.logLevel, "log", "", "log level: debug, info, warn, error (default: info; warn where a terminal shows the progress instead)")
	root.AddCommand(
		a.upCommand(), a.checkCommand(), a.runCommand(), a.statusCommand(), a.cancelCommand(),
		a.scheduleCommand(), a.sweepCommand(), a.gcCommand(), a.verifyCommand(), a.reportCommand(),
		a.compareCommand(), a.diffCommand(), a.uiCommand(), a.exportCommand(),
		a.pairsCommand(), a.humanCommand(), a.chatCommand(), a.scoreCommand(), a.doctorCommand(), a.workerCommand(), a.engineCommand(), a.modelCommand(),
		a.presetsCommand(), a.tokenizeCommand(), a.logprobsCommand(), a.mergeCommand(), a.benchCommand(),
	)
	return root
}

// setup makes the logger: readable on a terminal, JSON elsewhere.
func (a *app) setup(command string) error {
	if a.logLevel == "" {
		a.logLevel = zerolog.InfoLevel.String()
		if logs := command == "up" || command == "worker"; !logs && onTerminal(stderr) {
			a.logLevel = zerolog.WarnLevel.String()
		}
	}
	level, err := zerolog.ParseLevel(a.logLevel)
	if err != nil {
		return fmt.Errorf("--log %q: use debug, info, warn or error", a.logLevel)
	}
	a.board = newBoard(stderr)
	if onTerminal(stderr) {
		plain := !newScreen(stderr).colours
		a.log = zerolog.New(zerolog.ConsoleWriter{Out: a.board, TimeFormat: "15:04:05", NoColor: plain})
	} else {
		a.log = zerolog.New(stderr)
	}
	a.log = a.log.Level(level).With().Timestamp().Logger()
	return nil
}
