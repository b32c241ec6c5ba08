package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows/lab"
)

type verifyOptions struct {
	set       []string
	all, json bool
}

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify RUN | --all",
		Short: "Read every blob of a run again and compare its SHA-256",
		Long: `Read every file of a run's artifacts from the store and compare its SHA-256 with
the manifest, and the manifest with the stage: its kind, parameters and inputs; of
stages that are not finished, their checkpoints. What is damaged is named
with bucket and key, and with what to do. Nothing is changed.

` + helpRun + `

--all reads everything in the bucket: artifacts of all runs, checkpoints, kept
replies, and blobs that no manifest names.

Exit code 1 if anything is damaged. Nothing damaged is ever used: every reader
compares, and the next run makes a damaged stage anew. This command finds it
before, and finds disks that are going bad.`,
		Example: `  esclab verify demo
  esclab verify run/demo/0da221080876 --json
  esclab verify --all`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runVerify(c.Context(), strings.Join(args, ""), o, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&o.all, "all", false, "everything in the bucket")
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	c.Flags().StringArrayVar(&o.set, "set", nil, "as for esclab run")
	return c
}

func (a *app) runVerify(ctx context.Context, run string, o verifyOptions, out io.Writer) error {
	if o.all == (run != "") {
		return errors.New("name a run, or give --all")
	}
	se, err := a.openToRead(ctx)
	if err != nil {
		return err
	}
	defer se.close()
	store := se.node.Store
	again := "" // the command that runs it, where that is known
	var l lab.Layout
	if run != "" {
		if l, err = se.layoutOf(ctx, run, o.set); err != nil {
			return err
		}
		if l.Planned != "" {
			again = a.commandLine("esclab run", l.Planned, l.Set)
		}
	}
	read, done := readingProgress(stderr)
	var audited artifacts.Audited
	if run == "" {
		audited, err = store.AuditAll(ctx, func(ctx context.Context, m artifacts.Manifest) error { return lab.CheckPlanned(ctx, store, m) }, read)
	} else {
		audited, err = auditRun(ctx, store, l, read)
	}
	done()
	if err != nil {
		return failed(err)
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(struct {
			Store string `json:"store"`
			artifacts.Audited
		}{store.Location(), audited}); err != nil {
			return err
		}
	} else {
		printAudited(out, audited, store.Location(), again)
	}
	if n := len(audited.Damaged); n > 0 {
		return failed(fmt.Errorf("%d damaged in %s", n, store.Location()))
	}
	return nil
}

// auditRun reads the artifacts of a run and compares them with its stages.
func auditRun(ctx context.Context, store *artifacts.Store, l lab.Layout, read func(int64)) (artifacts.Audited, error) {
	var fingerprints []string
	of := map[string]experiments.Stage{}
	for _, s := range l.Stages {
		fingerprints = append(fingerprints, s.Fingerprint)
		of[s.Fingerprint] = s
	}
	return store.Audit(ctx, fingerprints, func(ctx context.Context, m artifacts.Manifest) error {
		content, err := of[m.Fingerprint].Content()
		if err != nil {
			return err
		}
		return lab.CheckOrigin(ctx, store, m, content, l.Inputs(of[m.Fingerprint]))
	}, read)
}

func printAudited(out io.Writer, a artifacts.Audited, location, again string) {
	for _, d := range a.Damaged {
		fmt.Fprintf(out, "damaged  %s%s\n         %s\n", location, d.Key, d.Reason)
		if d.Fingerprint != "" {
			of := strings.TrimSpace(fmt.Sprintf("%s %.12s", d.Stage, d.Fingerprint))
			if d.File != "" {
				of = d.File + " of stage " + of
			} else {
				of = "of stage " + of
			}
			fmt.Fprintf(out, "         %s\n", of)
		}
		remedy := d.Remedy
		if again != "" {
			remedy = strings.Replace(remedy, "run the experiment again", again, 1)
		}
		fmt.Fprintf(out, "         → %s\n", remedy)
	}
	fmt.Fprintf(out, "%d stages, %d blobs, %d checkpoints, %d documents: %s read, %d damaged\n",
		a.Stages, a.Blobs, a.Checkpoints, a.Documents, size(a.Bytes), len(a.Damaged))
	if a.Unfinished > 0 {
		fmt.Fprintf(out, "%d stages of the run are not finished\n", a.Unfinished)
	}
}

// readingProgress shows on a terminal how much has been read; elsewhere nothing.
func readingProgress(out io.Writer) (read func(int64), done func()) {
	if !onTerminal(out) {
		return nil, func() {}
	}
	var total atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				fmt.Fprint(control(out), "\r\033[K")
				return
			case <-tick.C:
				n := total.Load()
				fmt.Fprintf(control(out), "\r\033[K%s read, %s/s", size(n), size(int64(float64(n)/time.Since(began).Seconds())))
			}
		}
	}()
	return func(n int64) { total.Add(n) }, func() { close(stop); <-stopped }
}
