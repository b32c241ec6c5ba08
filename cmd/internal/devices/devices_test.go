package devices

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestList(t *testing.T) {
	for _, c := range []struct{ spec, visible, want, wrong string }{
		{"0-3", "", "0 1 2 3", ""},
		{"0,2", "", "0 2", ""},
		{"1-2,5", "", "1 2 5", ""},
		{"0-1", "4,6,7", "4 6", ""},
		{"2", "GPU-a, GPU-b ,MIG-c", "MIG-c", ""},
		{"0-3", "4,5", "", "no device 2 among the 2"},
		{"0,0", "", "", "comes twice"},
		{"0,1", "3,3", "", "comes twice"},
		{"3-1", "", "", `"3-1" is no device`},
		{"0-1000000", "", "", "is no device"},
		{"-1", "", "", "is no device"},
		{"all", "", "", "is no device"},
		{"0,", "", "", "is no device"},
	} {
		got, err := list(c.spec, c.visible)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q of %q: error %v, want one that says %q", c.spec, c.visible, err, c.wrong)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q of %q: %q, %v; want %q", c.spec, c.visible, got, err, c.want)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"worker", "--devices", "0-7", "--slots", "1"}, []string{"worker", "--slots", "1"}},
		{[]string{"--devices=0", "--devices-of"}, []string{"--devices-of"}},
	} {
		if got := without(c.args, Flag); !slices.Equal(got, c.want) {
			t.Errorf("%q without its devices is %q, want %q", c.args, got, c.want)
		}
	}
	if got, err := nth("127.0.0.1:9464", 3); err != nil || got != "127.0.0.1:9467" {
		t.Errorf("the fourth worker serves metrics on %q, %v; want port 9467", got, err)
	}
	if _, err := nth("127.0.0.1", 0); err == nil {
		t.Error("an address without a port is taken")
	}
}

// envChild has the test's program be a worker: it writes what device it sees into a directory, and ends at SIGTERM, or,
// told "crash", at once.
const envChild = "ESCLAB_TEST_DEVICES"

func TestMain(m *testing.M) {
	dir := os.Getenv(envChild)
	if dir == "" {
		os.Exit(m.Run())
	}
	device := os.Getenv(envVisible)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for i := 0; ; i++ { // a file for each start
		path := filepath.Join(dir, fmt.Sprintf("%s.%d", device, i))
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			continue
		}
		_ = file.Close()
		break
	}
	if slices.Contains(os.Args, "crash") {
		os.Exit(3)
	}
	<-ctx.Done()
	_ = os.WriteFile(filepath.Join(dir, device+".stopped"), nil, 0o600)
	os.Exit(0)
}

func startFleet(t *testing.T, args ...string) (f fleet, starts func(device string) int, dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv(envChild, dir)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f = fleet{program: program, devices: []string{"4", "MIG-6"}, log: zerolog.Nop(), steady: time.Hour, hasty: 3,
		args: func(int) []string { return args }}
	return f, func(device string) int {
		found, err := filepath.Glob(filepath.Join(dir, device+".[0-9]*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}, dir
}

// TestFleet: every device has a worker that sees it alone, and all of them stop with the fleet.
func TestFleet(t *testing.T) {
	f, starts, dir := startFleet(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx) }()
	for starts("4") == 0 || starts("MIG-6") == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the fleet ends with %v, want nil", err)
	}
	for _, device := range f.devices {
		if _, err := os.Stat(filepath.Join(dir, device+".stopped")); err != nil {
			t.Errorf("the worker of device %s was not asked to stop: %v", device, err)
		}
		if n := starts(device); n != 1 {
			t.Errorf("the worker of device %s was started %d times, want once", device, n)
		}
	}
}

// TestFleetFails: a worker that keeps ending is started again, and ends the fleet in the end.
func TestFleetFails(t *testing.T) {
	f, starts, _ := startFleet(t, "crash")
	f.devices = f.devices[:1]
	err := f.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "device 4 has ended 3 times") {
		t.Errorf("error %v, want one that names the device", err)
	}
	if n := starts("4"); n != 3 {
		t.Errorf("the worker was started %d times, want 3", n)
	}
}
