package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var dag = []Stage{{"corpus", false}, {"base", true}, {"sft/sp", true}, {"mine/sp", false}, {"dpo/sp", true}, {"report", false}}

func TestPlan(t *testing.T) {
	for _, kills := range []int{5, 20, 100} {
		plan := Plan(7, dag, kills)
		if again := Plan(7, dag, kills); !reflect.DeepEqual(plan, again) {
			t.Fatal("one seed gave two schedules")
		}
		if other := Plan(8, dag, kills); reflect.DeepEqual(plan, other) {
			t.Fatal("two seeds gave one schedule")
		}
		by, struck, pairs := map[Action]int{}, map[string]bool{}, 0
		for i, e := range plan {
			if e.Number != i+1 {
				t.Fatalf("event %d has number %d", i+1, e.Number)
			}
			by[e.Action]++
			if e.Action.Kill() {
				struck[e.Stage] = true
			}
			if e.Again {
				pairs++
				if first := plan[i-1]; first.Stage != e.Stage || first.Action != KillWorker || first.At == 0 {
					t.Errorf("before the second of a pair comes %s", first)
				}
			}
		}
		if got := by[KillWorker] + by[KillTemporal] + by[KillStore]; got != kills {
			t.Errorf("%d kills, want %d", got, kills)
		}
		if by[KillTemporal] == 0 || by[KillStore] == 0 || by[Freeze] == 0 || by[Cut] == 0 {
			t.Errorf("%d kills: %v", kills, by)
		}
		if kills >= 100 && (len(struck) != len(dag) || pairs != 3 || len(by) != len(actions)) {
			t.Errorf("%d kills strike %d stages with %d pairs: %v", kills, len(struck), pairs, by)
		}
	}
}

// write makes the log of a worker's start.
func write(t *testing.T, dir, worker string, start int, lines ...string) {
	t.Helper()
	if err := os.WriteFile(LogFile(dir, worker, start), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The account finds what must not be, and counts what may.
func TestAccount(t *testing.T) {
	const (
		begin1 = `{"message":"attempt begins","stage":"base","token":1}`
		begin2 = `{"message":"attempt begins","stage":"base","token":2}`
		save2  = `{"message":"checkpoint saved","stage":"base","token":1,"saved":2}`
		done2  = `{"message":"stage done","stage":"base","token":2}`
	)
	step := func(token, n string) string {
		return `{"message":"step","stage":"base","token":` + token + `,"step":` + n + `,"steps":4,"epoch":0.5}`
	}
	for _, c := range []struct {
		name          string
		first, second []string
		every         int
		broken        string
	}{
		{"right", []string{begin1, step("1", "1"), step("1", "2"), save2, step("1", "3")},
			[]string{begin2, step("2", "3"), step("2", "4"), done2}, 2, ""},
		{"began too early", []string{begin1, step("1", "1"), step("1", "2"), save2, step("1", "3")},
			[]string{begin2, step("2", "2"), step("2", "3"), step("2", "4"), done2}, 3, "attempt 2 began at step 2, an earlier attempt had saved step 2"},
		{"the zombie wrote", []string{begin1, step("1", "1"), step("1", "2"), save2},
			[]string{begin2, step("2", "1"), step("2", "2"), step("2", "3")}, 3, "attempt 2 began at step 1, an earlier attempt had saved step 2"},
		{"too much to lose", []string{begin1, step("1", "1"), step("1", "2"), step("1", "3")},
			[]string{begin2, step("2", "1")}, 2, "attempt 1 had 3 steps to lose"},
		{"went on after the end", []string{begin1, step("1", "1"), step("1", "2"), `{"message":"stage done","stage":"base","token":1}`},
			[]string{begin2, step("2", "3")}, 2, "attempt 1 had finished the stage"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a", 1, c.first...)
			write(t, dir, "b", 1, c.second...)
			workers := []*Process{{Name: "a", start: 1}, {Name: "b", start: 1}}
			campaign := Campaign{Lab: Lab{Workers: workers, Records: NewRecords(dir, workers)}, Stages: dag}
			campaign.done = []Outcome{{Event: Event{Action: KillWorker}, Hit: []Hit{{"base", 1, 3, 4, 1}}}, {Event: Event{Action: KillWorker}, Hit: []Hit{{"base", 2, 3, 4, 1}}},
				{Event: Event{Action: KillStore}}, {Event: Event{Action: Freeze}, Rival: true}}
			got, err := campaign.Account(c.every)
			if err != nil {
				t.Fatal(err)
			}
			if c.broken == "" && (len(got.Broken) > 0 || got.Steps != 4 || got.Repeated != 1 || got.Attempts != 2) ||
				c.broken != "" && !slices.ContainsFunc(got.Broken, func(s string) bool { return strings.Contains(s, c.broken) }) {
				t.Errorf("account %+v, want what is broken to hold %q, or nothing and 4 steps, 1 repeated, by 2 attempts", got, c.broken)
			}
			if got.Kills != 3 || got.Faults != 1 || got.Rivals != 1 || got.Within["base"] != 2 || got.Struck != 1 {
				t.Errorf("account %+v, want 3 kills, 1 fault, 1 rival, 2 in base and 1 struck", got)
			}
		})
	}
}

// A log is read as it grows, also where a line comes in pieces.
func TestRecordsGrow(t *testing.T) {
	dir := t.TempDir()
	workers := []*Process{{Name: "a", start: 1}}
	r := NewRecords(dir, workers)
	if err := r.Read(); err != nil {
		t.Fatal(err)
	}
	begun := `{"message":"attempt begins","stage":"base","token":3}` + "\n" + `{"message":"step","stage":"ba`
	if err := os.WriteFile(LogFile(dir, "a", 1), []byte(begun), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Read(); err != nil {
			t.Fatal(err)
		}
	}
	if now, is := r.current("base"); !is || now.token != 3 || now.last != 0 || len(r.running("a", 1)) != 1 {
		t.Fatalf("now %+v, want token 3 without a step, and one stage of run a", now)
	}
	f, err := os.OpenFile(LogFile(dir, "a", 1), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "se\",\"token\":3,\"step\":5,\"steps\":9,\"epoch\":2}\nnot JSON\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := r.Read(); err != nil {
		t.Fatal(err)
	}
	if now, _ := r.current("base"); now.last != 5 || now.pass != 2 || now.saved() != 4 {
		t.Fatalf("now %+v, want step 5 in pass 2, saved up to 4", now)
	}
}

// A link passes on, hurts what it is told to, and heals.
func TestLink(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	l, err := NewLink(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	say := func(c net.Conn) error {
		if _, err := c.Write([]byte("word")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	c := dial()
	if err := say(c); err != nil {
		t.Fatal(err)
	}
	l.Stall()
	said := make(chan error, 1)
	go func() { said <- say(c) }()
	select {
	case err := <-said:
		t.Fatalf("something passed a stalled link: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.Resume()
	if err := <-said; err != nil {
		t.Fatalf("a stalled connection did not go on: %v", err)
	}
	l.Cut(true)
	if err := say(c); err == nil {
		t.Error("a connection that was cut goes on")
	}
	if fresh, err := net.Dial("tcp", l.Address()); err == nil {
		if say(fresh) == nil {
			t.Error("a new connection was let through")
		}
		fresh.Close()
	}
	l.Heal()
	if err := say(dial()); err != nil {
		t.Errorf("healed: %v", err)
	}
}

// A process comes back when it is killed and when it ends by itself, is away
// for the time that it was told to, and stays away once it is stopped.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p := &Process{Name: "sleep", Logs: dir, Command: func() *exec.Cmd { return exec.Command("sleep", "60") }}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	started := func(n int) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		p.Ready = func(context.Context) error {
			if p.Number() < n {
				return errors.New("not yet")
			}
			return nil
		}
		if err := p.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.End(syscall.SIGKILL, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	started(2)
	if p.Failures() != 0 {
		t.Errorf("%d failures after a kill", p.Failures())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil { // behind its back
		t.Fatal(err)
	}
	started(3)
	if p.Failures() != 1 {
		t.Errorf("%d failures, want 1", p.Failures())
	}
	pid := p.PID()
	p.Stop()
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) || p.Number() != 3 {
		t.Errorf("after Stop: %v, start %d", err, p.Number())
	}
}
