package artifacts_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/artifacts/storetest"
)

// Variables of the benchmark: its size in bytes, its rounds, and, in a process
// that moves one checkpoint, what to do.
const (
	envBench  = "ESCLAB_STORE_BENCH"
	envRounds = "ESCLAB_STORE_ROUNDS"
	envMove   = "ESCLAB_STORE_MOVE" // up | down | nothing
)

const benchKey = "rclone/state"

// TestStoreBench moves a large checkpoint up and down, in processes of their
// own, in turns with rclone against the same server, and prints time and peak
// memory. It is what make store-bench runs.
func TestStoreBench(t *testing.T) {
	size, err := strconv.ParseFloat(os.Getenv(envBench), 64)
	if err != nil {
		t.Skipf("set %s to a number of bytes; make store-bench does", envBench)
	}
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv(envRounds)); err == nil {
		rounds = n
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "state")
	digest := writeRandom(t, source, int64(size))
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	g := storetest.StartProcess(t, root, "")
	c := g.Config()
	g.Open(t, c)
	rclone, err := exec.LookPath("rclone")
	if err != nil {
		t.Log("rclone is not installed: esclab alone")
	}
	results := map[string][]moved{}
	run := func(name string, command *exec.Cmd) {
		t.Helper()
		m := move(t, command)
		results[name] = append(results[name], m)
		t.Logf("%-14s %6.1f s  %4.0f MB/s  %4d MB", name, m.seconds, size/1e6/m.seconds, m.peak/1e6)
	}
	for range rounds {
		ours := func(what string) *exec.Cmd {
			e := exec.Command(os.Args[0])
			e.Env = append(os.Environ(), envMove+"="+what, "MOVE_ENDPOINT="+c.Endpoint, "MOVE_BUCKET="+c.Bucket,
				"MOVE_ACCESS="+c.AccessKey, "MOVE_SECRET="+c.SecretKey, "MOVE_FILE="+source, "MOVE_DIR="+dir, "MOVE_SHA256="+digest)
			return e
		}
		theirs := func(args ...string) *exec.Cmd {
			e := exec.Command(rclone, append(args, "--s3-no-check-bucket")...)
			e.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
			e.Env = append(e.Env, "RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_S_TYPE=s3", "RCLONE_CONFIG_S_PROVIDER=Other",
				"RCLONE_CONFIG_S_ENDPOINT="+c.Endpoint, "RCLONE_CONFIG_S_ACCESS_KEY_ID="+c.AccessKey, "RCLONE_CONFIG_S_SECRET_ACCESS_KEY="+c.SecretKey)
			return e
		}
		back := filepath.Join(dir, "back")
		remote := "s:" + c.Bucket + "/" + benchKey
		run("esclab idle", ours("nothing"))
		run("esclab up", ours("up"))
		if rclone != "" {
			run("rclone up", theirs("copyto", source, remote))
		}
		run("esclab down", ours("down"))
		if rclone != "" {
			run("rclone down", theirs("copyto", remote, back))
			os.Remove(back)
			run("rclone delete", theirs("deletefile", remote))
		}
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "%.1f GB, %d rounds in turns, %d cores, load %s\n\n| | MB/s, median (range) | peak MB, largest |\n|---|---|---|\n", size/1e9, rounds, runtime.NumCPU(), load())
	for _, name := range []string{"esclab up", "rclone up", "esclab down", "rclone down", "esclab idle"} {
		all := results[name]
		if len(all) == 0 {
			continue
		}
		slices.SortFunc(all, func(a, b moved) int { return cmp.Compare(a.seconds, b.seconds) })
		rate := func(i int) float64 { return size / 1e6 / all[i].seconds }
		peak := slices.MaxFunc(all, func(a, b moved) int { return cmp.Compare(a.peak, b.peak) }).peak
		if name == "esclab idle" {
			fmt.Fprintf(&table, "| %s | | %d |\n", name, peak/1e6)
			continue
		}
		fmt.Fprintf(&table, "| %s | %.0f (%.0f to %.0f) | %d |\n", name, rate(len(all)/2), rate(len(all)-1), rate(0), peak/1e6)
	}
	t.Logf("\n%s", table.String())
	for _, name := range []string{"esclab up", "esclab down"} {
		for _, m := range results[name] {
			if m.peak > 256e6 {
				t.Errorf("%s: %d MB for %.0f MB: memory grows with the checkpoint", name, m.peak/1e6, size/1e6)
			}
		}
	}
}

// moved is what moving the checkpoint took.
type moved struct {
	seconds float64
	peak    int64 // bytes of resident memory
}

func move(t *testing.T, c *exec.Cmd) moved {
	t.Helper()
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	// Not what wait4 says: that counts the memory of this process, too, which
	// the new one shares until it is another program.
	var peak int64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			peak = max(peak, highWater(c.Process.Pid))
			continue
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s: %v\n%s", c, err, &said)
			}
		}
		return moved{seconds: time.Since(began).Seconds(), peak: peak}
	}
}

// highWater is the most memory that a process has held, 0 where it is gone.
func highWater(pid int) (bytes int64) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if self, own := os.Executable(); err != nil || own == nil && exe == self && !isMover(pid) {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// isMover tells a process of the benchmark from this one, whose image it shares
// until it has begun.
func isMover(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(data, []byte(envMove+"="))
}

// load is the machine's load in the last minute.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(data))[0]
}

// writeRandom fills a file and returns its SHA-256.
func writeRandom(t *testing.T, path string, n int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	w := io.MultiWriter(f, h)
	block := storetest.Bytes(1<<24, 1)
	for i := uint64(0); n > 0; i++ {
		part := block[:min(n, int64(len(block)))]
		if len(part) >= 8 {
			binary.LittleEndian.PutUint64(part, i) // no two blocks alike
		}
		n -= int64(len(part))
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// moveOne is what a process of the benchmark does: it saves a checkpoint whose
// state is a file, or reads the newest one, verified, into a file.
func moveOne(what string) error {
	ctx := context.Background()
	b, err := s3.Open(ctx, s3.Config{
		Endpoint: os.Getenv("MOVE_ENDPOINT"), Bucket: os.Getenv("MOVE_BUCKET"), Region: "us-east-1", PathStyle: true,
		AccessKey: os.Getenv("MOVE_ACCESS"), SecretKey: os.Getenv("MOVE_SECRET"),
	})
	if err != nil {
		return err
	}
	defer b.Close()
	dir := os.Getenv("MOVE_DIR")
	s, err := artifacts.New(b, artifacts.Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		return err
	}
	stage := fingerprint("bench")
	switch what {
	case "up":
		l, err := s.Acquire(ctx, stage, artifacts.Claim{Owner: "bench", Steal: true})
		if err != nil {
			return err
		}
		if err := l.DropCheckpoints(ctx); err != nil {
			return err
		}
		_, err = l.SaveCheckpoint(ctx, 1, map[string]artifacts.WriteFunc{"state": func(w io.Writer) error {
			f, err := os.Open(os.Getenv("MOVE_FILE"))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 1<<20))
			return err
		}})
		return err
	case "down":
		state := artifacts.Ref{SHA256: os.Getenv("MOVE_SHA256")}
		for o, err := range b.List(ctx, "stages/"+stage+"/checkpoints/") {
			if err != nil {
				return err
			}
			if filepath.Base(o.Key) == "state" {
				state.Key, state.Bytes = o.Key, o.Bytes
			}
		}
		path, err := s.LocalFile(ctx, state)
		if err != nil {
			return err
		}
		return os.Remove(path)
	}
	return nil
}
