package devices

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
)

// A fleet is the workers of a machine, one a device.
type fleet struct {
	program string
	devices []string // as CUDA_VISIBLE_DEVICES calls them
	args    func(n int) []string
	log     zerolog.Logger
	// A worker that ends is started again after pause; one that ends hasty times in a row before it has run for steady
	// ends the fleet.
	pause, steady time.Duration
	hasty         int
}

// Run starts the program again for each device that spec lists, with its own arguments but for --devices, and a port of
// its own for metrics (an address, or ""). A worker that ends is started again. When ctx ends, or one worker keeps
// failing, all of them get SIGTERM, and Run returns when they have ended.
func Run(ctx context.Context, spec, metrics string, log zerolog.Logger) error {
	devices, err := list(spec, os.Getenv(envVisible))
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	own := without(os.Args[1:], Flag)
	ports := make([]string, len(devices))
	if metrics != "" {
		own = without(own, "metrics")
		for i := range devices {
			if ports[i], err = nth(metrics, i); err != nil {
				return err
			}
		}
	}
	return fleet{program: program, devices: devices, log: log, pause: 5 * time.Second, steady: time.Minute, hasty: 3,
		args: func(n int) []string {
			if metrics == "" {
				return own
			}
			return append(own[:len(own):len(own)], "--metrics", ports[n])
		}}.run(ctx)
}

func (f fleet) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range f.devices {
		group.Go(func() error { return f.keep(ctx, n) })
	}
	return group.Wait()
}

// keep runs a device's worker until ctx ends.
func (f fleet) keep(ctx context.Context, n int) error {
	device, hasty := f.devices[n], 0
	for {
		began := time.Now()
		err := f.once(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if hasty++; time.Since(began) >= f.steady {
			hasty = 0
		}
		if hasty >= f.hasty {
			return fmt.Errorf("the worker of device %s has ended %d times soon after its start, last with: %w; its log says why", device, hasty, err)
		}
		f.log.Warn().Str("device", device).Err(err).Msg("worker ended; it is started again")
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.pause):
		}
	}
}

// once runs a device's worker once. Its end follows that of ctx, and that of this process.
func (f fleet) once(ctx context.Context, n int) error {
	runtime.LockOSThread() // the kernel takes the end of this thread for that of the parent
	defer runtime.UnlockOSThread()
	c := exec.CommandContext(ctx, f.program, f.args(n)...)
	c.Env = append(os.Environ(), envVisible+"="+f.devices[n])
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = apart() // Ctrl-C reaches this process alone, which passes it on once
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	if err := c.Start(); err != nil {
		return err
	}
	f.log.Info().Str("device", f.devices[n]).Int("pid", c.Process.Pid).Msg("worker started")
	return c.Wait()
}
