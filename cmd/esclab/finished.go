package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workflows/lab"
)

// helpRun explains the argument RUN of the commands that read a run's
// artifacts.
const helpRun = `RUN is what esclab status lists (demo/0da221080876), the name of an
experiment, or how either begins: the newest run that it fits. Of a run with several seeds the first one's stages
are read, or those that are named, as in decoupled/dpo@2. With --set, or where RUN is a YAML file, or where
there is no such run, RUN is planned as esclab run would and the stages that are
in the store are read.`

// errNoRuns says that nothing has been run on a data directory.
var errNoRuns = errors.New("there is no run yet: start one with esclab run")

// openToRead connects as open does, for a command that reads what runs have left:
// where none has been, it starts nothing and leaves no data directory behind.
func (a *app) openToRead(ctx context.Context) (*session, error) {
	s, err := a.loadSettings()
	if err != nil {
		return nil, err
	}
	there := false // planning may have left digests of a model's files in it
	for _, name := range []string{"temporal.db", "s3"} {
		_, err := os.Stat(filepath.Join(s.Embedded.DataDir, name))
		there = there || !errors.Is(err, fs.ErrNotExist)
	}
	if !there && (s.EmbedTemporal() || s.EmbedS3()) {
		return nil, fmt.Errorf("data directory %s: %w", s.Embedded.DataDir, errNoRuns)
	}
	return a.open(ctx, true)
}

// layoutOf finds the stages of a run: those that it was started with, or those
// that an experiment would have.
func (se *session) layoutOf(ctx context.Context, run string, set []string) (lab.Layout, error) {
	return se.lab.LayoutOf(ctx, run, set, node.Host(ctx, se.settings))
}

// absent says of a stage's error, where it is that the artifact is not there,
// what to do about it.
func (se *session) absent(l lab.Layout, stage string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, artifacts.ErrNotFound):
		return failed(fmt.Errorf("stage %s of %s is not in the store: %s", stage, l.Name, se.remedy(l)))
	}
	return failed(fmt.Errorf("stage %s of %s: %w", stage, l.Name, err))
}

// remedy says what makes the stages of a run that are not there.
func (se *session) remedy(l lab.Layout) string {
	if l.Planned == "" {
		return "see how the run stands: " + se.app.commandLine("esclab status", runName(l.Run.ID), nil)
	}
	return "run it first: " + se.app.commandLine("esclab run", l.Planned, l.Set)
}

// runName is a run's workflow ID as commands take and print it: demo/0da221080876.
func runName(id string) string { return strings.TrimPrefix(id, "run/") }

// commandLine writes a command so that it works when it is typed where this program
// was called: by the same name, quoted for a shell, and with the flags that say where
// everything is. run is "" for a command that takes none.
func (a *app) commandLine(command, run string, set []string) string {
	line := command
	if a.program != "" {
		line = quoted(a.program) + strings.TrimPrefix(command, "esclab")
	}
	if run != "" {
		line += " " + quoted(run)
	}
	for _, s := range set {
		line += " --set " + quoted(s)
	}
	for _, f := range []struct{ name, value string }{{"--data", a.dataDir}, {"--config", a.configPath}} {
		if f.value != "" {
			line += " " + f.name + " " + quoted(f.value)
		}
	}
	return line
}

// quoted quotes a word for a shell where it has to be.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./=,:@%+-", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// reportDir is the directory of a run's report, below the data directory.
func (se *session) reportDir(experiment, fingerprint string) string {
	return filepath.Join(se.settings.Embedded.DataDir, "reports", experiment, fmt.Sprintf("%.12s", fingerprint))
}

// emptyOrNew refuses a directory of --out that is there for something else.
func emptyOrNew(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--out: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("--out %s holds other files: name a new folder or an empty one", dir)
	}
	return nil
}
