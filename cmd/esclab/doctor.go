package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check engines, Temporal, the store and the disk, and say what is wrong",
		Long: `Check what a run needs: the engines that can compute, Temporal, the S3 store
(a small object is written, read and removed) and the free space of the data
directory. Where nothing is up, the embedded stack is started for the check.
Exit code 1 if a check fails.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c.Context(), stdout) },
	}
}

func (a *app) runDoctor(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "esclab %s, %s, %s/%s, %d cores\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	bad := 0
	say := func(c connect.Check) {
		fmt.Fprintf(out, "%-5s %-15s %s\n", c.Status, c.Name, c.Detail)
		if c.Remedy != "" {
			fmt.Fprintf(out, "%-5s %-15s → %s\n", "", "", c.Remedy)
		}
		if c.Status == connect.Fail {
			bad++
		}
	}
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	for _, name := range lm.EngineNames() {
		c, more := checkEngine(name, s.Embedded.DataDir)
		say(c)
		for _, line := range more {
			fmt.Fprintf(out, "%-5s %-15s %s\n", "", "", line)
		}
	}
	freePorts(&s.Embedded.Ports)
	target, own, err := stack.Ensure(ctx, s, a.log)
	if err != nil {
		say(connect.Check{Name: "stack", Status: connect.Fail, Detail: err.Error()})
	} else {
		say(connect.CheckTemporal(ctx, target.Temporal, s.SearchAttributes))
		if c, embedded := connect.CheckAccess(ctx, target); embedded {
			say(c)
		}
		say(connect.CheckS3(ctx, target.S3))
	}
	if c, there := stack.CheckDatabase(ctx, s.Embedded.DataDir); there {
		say(c)
	}
	say(connect.CheckDisk(s.Embedded.DataDir))
	if own != nil {
		if err := own.Stop(); err != nil {
			return failed(err)
		}
	}
	if bad > 0 {
		return failed(errors.New("not everything is well; see the arrows above"))
	}
	return nil
}

// checkEngine opens an engine and says which library and which variables it
// read. One that is absent is no fault: the Go engine always works.
func checkEngine(name, dataDir string) (c connect.Check, more []string) {
	c = connect.Check{Name: "engine " + name, Status: connect.OK}
	engine, err := lm.EngineOptions{DataDir: dataDir}.Open(name)
	var missing *lm.EngineError
	switch {
	case errors.As(err, &missing):
		c.Status, c.Detail, c.Remedy = connect.Warn, missing.Cause.Error(), missing.Remedy
		for _, v := range missing.Variables {
			more = append(more, "reads "+v.String())
		}
		return c, more
	case err != nil:
		c.Status, c.Detail = connect.Fail, err.Error()
		return c, nil
	}
	defer engine.Close()
	c.Detail = engine.Name + " " + engine.Version
	if engine.Library != "" {
		more = append(more, "library "+engine.Library)
	}
	for _, v := range engine.Variables {
		more = append(more, "reads "+v.String())
	}
	return c, more
}
