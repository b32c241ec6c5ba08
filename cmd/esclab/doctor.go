package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context(), os.Stdout) },
	}
}

func (a *app) doctor(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "esclab %s, %s, %s/%s, %d cores\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	bad := 0
	say := func(c connect.Check) {
		fmt.Fprintf(out, "%-5s %-14s %s\n", c.Status, c.Name, c.Detail)
		if c.Remedy != "" {
			fmt.Fprintf(out, "%-5s %-14s → %s\n", "", "", c.Remedy)
		}
		if c.Status == connect.Fail {
			bad++
		}
	}
	for _, name := range lm.EngineNames() {
		say(checkEngine(name))
	}
	s, err := a.loadSettings()
	if err != nil {
		return err
	}
	freePorts(&s.Embedded.Ports)
	target, own, err := stack.Ensure(ctx, s, a.log)
	if err != nil {
		say(connect.Check{Name: "stack", Status: connect.Fail, Detail: err.Error()})
	} else {
		say(connect.CheckTemporal(ctx, target.Temporal, s.SearchAttributes))
		say(connect.CheckS3(ctx, target.S3))
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

// checkEngine opens an engine. One that is absent is no fault: the Go engine
// always works.
func checkEngine(name string) connect.Check {
	c := connect.Check{Name: "engine " + name, Status: connect.OK}
	engine, err := lm.OpenEngine(name)
	if err != nil {
		c.Status, c.Detail = connect.Warn, err.Error()
		if name == "go" || name == "auto" {
			c.Status = connect.Fail
		}
		return c
	}
	defer engine.Close()
	c.Detail = engine.Name + " " + engine.Version
	return c
}
