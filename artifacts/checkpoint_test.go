package artifacts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func save(t *testing.T, l *artifacts.Lease, step int64, state string) artifacts.Checkpoint {
	t.Helper()
	c, err := l.SaveCheckpoint(t.Context(), step, map[string]artifacts.WriteFunc{
		"state":        artifacts.BytesFile([]byte(state)),
		"cursor.json":  func(w io.Writer) error { _, err := fmt.Fprintf(w, "%d", step); return err },
		"empty/name é": func(io.Writer) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// latest returns the step and the state of the latest checkpoint, read back.
func latest(t *testing.T, w *world) (step int64, state string) {
	t.Helper()
	c, _, err := w.LatestCheckpoint(t.Context(), fingerprint("stage"))
	if errors.Is(err, artifacts.ErrNotFound) {
		return -1, ""
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := w.ReadAll(t.Context(), c.Files["state"], 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	return c.Step, string(data)
}

func checkpointKey(step, token int64, name string) string {
	return fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/%s", fingerprint("stage"), step, token, name)
}

// steps lists the steps that have a marker.
func (w *world) steps(t *testing.T) []string {
	t.Helper()
	steps := []string{}
	for _, key := range storetest.Keys(t, w.Backend, "stages/"+fingerprint("stage")+"/") {
		if before, ok := strings.CutSuffix(key, "/marker.json"); ok {
			dir := before[strings.LastIndexByte(before, '/')+1:]
			step, token, _ := strings.Cut(dir, "-")
			steps = append(steps, strings.TrimLeft(step, "0")+"-"+strings.TrimLeft(token, "0"))
		}
	}
	slices.Sort(steps)
	return steps
}

func TestCheckpoint(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		_, skipped, err := w.LatestCheckpoint(t.Context(), fingerprint("stage"))
		if wantErr(t, err, artifacts.ErrNotFound); len(skipped) != 0 {
			t.Errorf("skipped %v", skipped)
		}
		l := w.acquire(t, artifacts.Claim{Keep: 2})
		big := string(storetest.Bytes(9<<20, 5)) // more than a part
		for step := int64(99); step <= 101; step++ {
			saved := save(t, l, step, fmt.Sprint(big, step))
			c, skipped, err := w.LatestCheckpoint(t.Context(), fingerprint("stage"))
			if err != nil || len(skipped) != 0 || c.Digest != saved.Digest || c.Step != step || c.Token != l.Token() || len(c.Files) != 3 {
				t.Fatalf("step %d: %+v, %v, %v", step, c, skipped, err)
			}
			if data, err := w.ReadAll(t.Context(), c.Files["empty/name é"], 0); err != nil || len(data) != 0 {
				t.Errorf("empty file: %q, %v", data, err)
			}
			if _, state := latest(t, w); state != fmt.Sprint(big, step) {
				t.Errorf("step %d: state of %d bytes", step, len(state))
			}
		}
		if got := w.steps(t); !slices.Equal(got, []string{"100-1", "101-1"}) {
			t.Errorf("kept %q, want the last two", got)
		}
		if err := l.DropCheckpoints(t.Context()); err != nil {
			t.Error(err)
		}
		if keys := storetest.Keys(t, w.Backend, "stages/"); len(keys) != 2 {
			t.Errorf("after dropping: %q", keys)
		}
	})
}

func TestKeepOne(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	l := w.acquire(t, artifacts.Claim{Keep: 1})
	for step := int64(1); step <= 3; step++ {
		save(t, l, step, "state")
		if got := w.steps(t); !slices.Equal(got, []string{fmt.Sprintf("%d-1", step)}) {
			t.Errorf("after step %d: %q", step, got)
		}
	}
	// A failed save leaves the one there is alone.
	broken := errors.New("device lost")
	_, err := l.SaveCheckpoint(t.Context(), 4, map[string]artifacts.WriteFunc{"state": func(w io.Writer) error {
		w.Write([]byte("half"))
		return broken
	}})
	wantErr(t, err, broken)
	if step, _ := latest(t, w); step != 3 {
		t.Errorf("latest is %d", step)
	}
}

// TestDamagedCheckpoint: whatever is wrong with the newest checkpoint, it is
// not taken for one; the one before is, and the reason is told.
func TestDamagedCheckpoint(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		state, marker := checkpointKey(20, 1, "state"), checkpointKey(20, 1, "marker.json")
		for name, damage := range map[string]func(){
			"no marker":        func() { w.delete(t, marker) },
			"flipped state":    func() { w.flip(t, state, 2) },
			"truncated state":  func() { storetest.Write(t, w.Backend, state, []byte("ne")) },
			"missing state":    func() { w.delete(t, state) },
			"flipped marker":   func() { w.flip(t, marker, 30) },
			"truncated marker": func() { storetest.Write(t, w.Backend, marker, storetest.Read(t, w.Backend, marker)[:40]) },
			"empty marker":     func() { storetest.Write(t, w.Backend, marker, nil) },
			"another's marker": func() {
				storetest.Write(t, w.Backend, marker, storetest.Read(t, w.Backend, checkpointKey(10, 1, "marker.json")))
			},
		} {
			for _, key := range storetest.Keys(t, w.Backend, "stages/") {
				w.delete(t, key)
			}
			l := w.acquire(t, artifacts.Claim{})
			save(t, l, 10, "old")
			save(t, l, 20, "new")
			damage()
			c, skipped, err := w.LatestCheckpoint(t.Context(), fingerprint("stage"))
			if err != nil || c.Step != 10 || len(skipped) != 1 {
				t.Errorf("%s: step %d, skipped %v, %v", name, c.Step, skipped, err)
			}
			// Saving that step again makes it whole.
			save(t, l, 20, "new")
			if step, got := latest(t, w); step != 20 || got != "new" {
				t.Errorf("%s: saved again: %d %q", name, step, got)
			}
		}
	})
}

// TestBackendErrorIsNoTornCheckpoint: a service that is down must not make a
// stage start from an older state.
func TestBackendErrorIsNoTornCheckpoint(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	l := w.acquire(t, artifacts.Claim{})
	save(t, l, 10, "old")
	save(t, l, 20, "new")
	down := errors.New("service unavailable")
	w.get = func(key string) error {
		if key == checkpointKey(20, 1, "state") {
			return down
		}
		return nil
	}
	_, _, err := w.LatestCheckpoint(t.Context(), fingerprint("stage"))
	wantErr(t, err, down)
}

// TestCrashAnywhere cuts a save short at each of its writes. The latest
// checkpoint is then the old or the new one, whole; and the next attempt leaves
// no rubbish.
func TestCrashAnywhere(t *testing.T) {
	for crashAt := 1; ; crashAt++ {
		w := newWorld(t, openDirectory(t))
		save(t, w.acquire(t, artifacts.Claim{Attempt: 1, Keep: 1}), 10, "old")
		l := w.acquire(t, artifacts.Claim{Attempt: 2, Keep: 1})
		ctx, crash := context.WithCancel(t.Context())
		defer crash()
		writes := 0
		w.put = func(string) {
			if writes++; writes == crashAt {
				crash()
			}
		}
		_, err := l.SaveCheckpoint(ctx, 20, map[string]artifacts.WriteFunc{
			"state": artifacts.BytesFile([]byte("new")), "more": artifacts.BytesFile(bytes.Repeat([]byte("more"), 100_000)),
		})
		w.put = nil
		step, state := latest(t, w)
		if err == nil { // it has fewer writes than crashAt
			if crashAt != 6 || step != 20 || state != "new" {
				t.Errorf("after %d writes: step %d, %q", crashAt-1, step, state)
			}
			return
		}
		// The last write only points at a checkpoint that is whole already.
		if old := step == 10 && state == "old"; !old && (crashAt != 5 || step != 20 || state != "new") {
			t.Errorf("crash at write %d: step %d, %q", crashAt, step, state)
		}
		next := w.acquire(t, artifacts.Claim{Attempt: 3, Keep: 1})
		save(t, next, 15, "next")
		if got := w.steps(t); !slices.Equal(got, []string{"15-3"}) {
			t.Errorf("crash at write %d: kept %q", crashAt, got)
		}
		if keys := storetest.Keys(t, w.Backend, "stages/"+fingerprint("stage")+"/checkpoints/"); len(keys) != 5 {
			t.Errorf("crash at write %d: rubbish in %q", crashAt, keys)
		}
	}
}

// TestPassedOver: an unusable checkpoint that the resumed attempt starts behind
// takes no place among those that are kept.
func TestPassedOver(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	first := w.acquire(t, artifacts.Claim{Attempt: 1, Keep: 2})
	save(t, first, 10, "ten")
	save(t, first, 20, "twenty")
	w.flip(t, checkpointKey(20, 1, "state"), 0)
	second := w.acquire(t, artifacts.Claim{Attempt: 2, Keep: 2})
	if step, _ := latest(t, w); step != 10 {
		t.Fatalf("resumed at %d", step)
	}
	save(t, second, 15, "fifteen")
	if got := w.steps(t); !slices.Equal(got, []string{"10-1", "15-2"}) {
		t.Errorf("kept %q", got)
	}
	if step, state := latest(t, w); step != 15 || state != "fifteen" {
		t.Errorf("latest %d %q", step, state)
	}
}

func TestCheckpointNames(t *testing.T) {
	w := newWorld(t, openDirectory(t))
	l := w.acquire(t, artifacts.Claim{})
	for _, name := range []string{"", "marker.json", strings.Repeat("x", 300)} {
		_, err := l.SaveCheckpoint(t.Context(), 1, map[string]artifacts.WriteFunc{name: artifacts.BytesFile(nil)})
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
	if _, err := l.SaveCheckpoint(t.Context(), 1, nil); err == nil {
		t.Error("a checkpoint without files was saved")
	}
	if _, err := l.SaveCheckpoint(t.Context(), -1, map[string]artifacts.WriteFunc{"a": artifacts.BytesFile(nil)}); err == nil {
		t.Error("a negative step was saved")
	}
	c, err := l.SaveCheckpoint(t.Context(), 1, map[string]artifacts.WriteFunc{"../../../escape": artifacts.BytesFile([]byte("x"))})
	if err != nil || !strings.HasPrefix(c.Files["../../../escape"].Key, checkpointKey(1, 1, "%2E.%2F")) {
		t.Errorf("an escaped name: %+v, %v; want a key below the checkpoint", c, err)
	}
}
