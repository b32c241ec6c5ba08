// Command esclab-worker works on task queues and nothing else: the small
// program for GPU hosts, without the embedded servers.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/esclab/esclab/cmd/internal/benchlm"
	"github.com/esclab/esclab/cmd/internal/devices"
	"github.com/esclab/esclab/cmd/internal/revision"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/workers"
	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/telemetry"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "esclab-worker:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var config, data, metrics, cards string
	var queues []string
	var slots int
	var stop time.Duration
	var promote bool
	c := &cobra.Command{
		Use:   "esclab-worker",
		Short: "Work on the task queues of a Temporal that temporal.yaml names",
		Long: `Poll task queues and execute stages until Ctrl-C or SIGTERM; running stages then
save a checkpoint, and another worker continues them. One process serves one
device: --devices starts one for each. temporal.yaml says where Temporal and the S3 store are. "bench lm"
measures what the device makes of training and generation, and needs neither.`,
		Version: version, SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if cards != "" {
				return devices.Run(c.Context(), cards, metrics, zerolog.New(os.Stderr).With().Timestamp().Logger())
			}
			return work(c.Context(), config, data, metrics, queues, slots, stop, promote)
		},
	}
	c.Flags().StringVar(&config, "config", "", "settings file (default: temporal.yaml here; $ESCLAB_CONFIG)")
	c.PersistentFlags().StringVar(&data, "data", "", "directory for engines' libraries, cache and scratch files (default: $ESCLAB_DATA_DIR or ~/.local/share/esclab)")
	c.Flags().StringVar(&cards, devices.Flag, "", devices.Usage)
	c.Flags().StringSliceVar(&queues, "queues", []string{"gpu"}, "classes of queues to serve: control, cpu, gpu")
	c.Flags().IntVar(&slots, "slots", 1, "kernel stages at the same time: one per device")
	c.Flags().DurationVar(&stop, "stop-timeout", workers.DefaultStopTimeout, "time that running stages have to save a checkpoint at the end: more than a step and a save")
	c.Flags().StringVar(&metrics, "metrics", "", "serve Prometheus /metrics, /healthz and /readyz on this address, like 127.0.0.1:9464")
	c.Flags().BoolVar(&promote, "promote", false, "with versioning.mode: pinned, new runs start on this build from now on")
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	openEngine := func(name string) (*lm.Engine, error) {
		s, err := load(config, data)
		if err != nil {
			return nil, err
		}
		return lm.EngineOptions{DataDir: s.Embedded.DataDir}.Open(name)
	}
	c.AddCommand(benchlm.Command(benchlm.Host{OpenEngine: openEngine, Log: &log, Failed: func(err error) error { return err }}))
	return c
}

// load reads the settings, and puts the flag --data before theirs.
func load(config, data string) (*settings.Settings, error) {
	s, err := settings.Load(config)
	if err != nil || data == "" {
		return s, err
	}
	return s, s.SetDataDir(data)
}

func work(ctx context.Context, config, data, metrics string, queues []string, slots int, stop time.Duration, promote bool) error {
	classes, err := node.ParseQueues(queues)
	if err != nil {
		return err
	}
	s, err := load(config, data)
	if err != nil {
		return err
	}
	target, err := connect.Find(ctx, s)
	if errors.Is(err, connect.ErrNotRunning) {
		return fmt.Errorf("%w; to work for another machine, set temporal.address and s3.endpoint in temporal.yaml", err)
	}
	if err != nil {
		return err
	}
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	build := cmp.Or(revision.Of(), version)
	tel, err := telemetry.New(ctx, telemetry.Options{Address: metrics, Service: "esclab-worker", Version: build, Log: log})
	if err != nil {
		return err
	}
	defer tel.Close()
	n, err := node.Connect(ctx, s, target, log, tel)
	if err != nil {
		return err
	}
	defer n.Close()
	end, err := node.LastWords(s.Embedded.DataDir)
	if err != nil {
		log.Warn().Err(err).Msg("a crash of this process would leave no last words in the data directory")
	}
	defer func() { _ = end() }()
	n.Revision, n.StopTimeout, n.Promote = build, stop, promote
	if err := n.Work(classes, slots); err != nil {
		return err
	}
	log.Info().Strs("queues", queues).Str("temporal", target.Temporal.Address).Msg("working")
	<-ctx.Done()
	log.Info().Msg("stopping: running stages save their checkpoints")
	return nil
}
