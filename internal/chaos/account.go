package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Account is what a campaign has cost, and which promises were broken.
type Account struct {
	Seed     uint64
	Kills    int
	Faults   int // disturbances that killed nothing
	By       map[Action]int
	Rivals   int // of the frozen and cut-off workers, those that a second attempt met
	Stages   int
	Attempts int
	Steps    int // of the trainings, each once
	Repeated int // steps that were made more than once, for attempts that were interrupted
	Wall     time.Duration
	// Within is the most kills of its worker that each training stage has seen
	// within one epoch.
	Within map[string]int
	// Struck counts the stages that were under way at some kill.
	Struck int
	// Broken are promises that were not kept, one line each.
	Broken []string
}

// Account draws up the account after the run has ended. every is the number of
// steps between two checkpoints, which is the most that an attempt may lose.
func (c *Campaign) Account(every int) (Account, error) {
	if err := c.Records.readAll(); err != nil {
		return Account{}, err
	}
	a := Account{Seed: c.Seed, By: map[Action]int{}, Stages: len(c.Stages), Within: map[string]int{}, Wall: time.Since(c.began)}
	struck := map[string]bool{}
	type epoch struct {
		stage string
		pass  int
	}
	within := map[epoch]int{}
	for _, o := range c.done {
		a.By[o.Action]++
		if o.Rival {
			a.Rivals++
		}
		if !o.Action.Kill() {
			a.Faults++
			continue
		}
		a.Kills++
		for _, h := range o.Hit {
			struck[h.Stage] = true
			if o.Action == KillWorker && h.Step > 0 {
				k := epoch{h.Stage, h.Pass}
				within[k]++
				a.Within[h.Stage] = max(a.Within[h.Stage], within[k])
			}
		}
	}
	a.Struck = len(struck)
	c.Records.account(&a, every)
	slices.Sort(a.Broken)
	return a, nil
}

// account looks at every attempt.
func (r *Records) account(a *Account, every int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	byStage := map[string][]*progress{}
	for _, p := range r.attempts {
		byStage[p.stage] = append(byStage[p.stage], p)
		a.Attempts++
	}
	broken := func(format string, args ...any) { a.Broken = append(a.Broken, fmt.Sprintf(format, args...)) }
	for stage, attempts := range byStage {
		slices.SortFunc(attempts, func(p, q *progress) int { return int(p.token - q.token) })
		safe, reached, made, finished := 0, 0, 0, int64(0)
		for _, p := range attempts {
			if p.first > 0 {
				if p.first <= safe {
					broken("%s: attempt %d began at step %d, an earlier attempt had saved step %d", stage, p.token, p.first, safe)
				}
				if finished > 0 {
					broken("%s: attempt %d went on, attempt %d had finished the stage", stage, p.token, finished)
				}
			}
			// This also counts what a worker saved after it was frozen or cut off
			// for a while: had it written after the next attempt began, that
			// attempt would have begun at an earlier step.
			for _, s := range p.saves {
				safe = max(safe, s)
			}
			if p.done && finished == 0 {
				finished = p.token
			}
			if p.steps == 0 {
				continue
			}
			if p.after > every {
				broken("%s: attempt %d had %d steps to lose, checkpoints come every %d", stage, p.token, p.after, every)
			}
			made += p.last - p.first + 1
			reached = max(reached, p.last)
		}
		a.Steps += reached
		a.Repeated += made - reached
	}
}

// readAll reads what is left of every log.
func (r *Records) readAll() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.workers {
		for start := 1; start <= w.Number(); start++ {
			if err := r.readFile(w.Name, start); err != nil {
				return err
			}
		}
	}
	return nil
}

// String is the one line of a campaign, without what the store says.
func (a Account) String() string {
	var kills, faults []string
	for _, action := range actions {
		if n := a.By[action]; n > 0 && action.Kill() {
			kills = append(kills, fmt.Sprintf("%d %s", n, action))
		} else if n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", n, action))
		}
	}
	return fmt.Sprintf("seed %d: %d kills (%s), %d other faults (%s; a second attempt met the first %d times), %d stages, %d of them under way at a kill, %d attempts, %d steps trained and %d of them again",
		a.Seed, a.Kills, strings.Join(kills, ", "), a.Faults, strings.Join(faults, ", "), a.Rivals, a.Stages, a.Struck, a.Attempts, a.Steps, a.Repeated)
}
