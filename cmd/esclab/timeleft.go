package main

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// timeLeft guesses how long a run still takes, from finished stages like those
// that it has to do and from what its running stages say.
type timeLeft struct {
	mu        sync.Mutex
	stages    map[string]experiments.Stage
	estimator *experiments.Estimator
	began     map[string]time.Time // when a stage was first seen to run
}

func newTimeLeft(stages []experiments.Stage) *timeLeft {
	l := &timeLeft{stages: map[string]experiments.Stage{}, estimator: experiments.NewEstimator(nil), began: map[string]time.Time{}}
	for _, s := range stages {
		l.stages[s.Name] = s
	}
	return l
}

func (l *timeLeft) learn(past ...experiments.PastStage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.estimator.Learn(past...)
}

func (l *timeLeft) learnStage(s workflows.StageState) {
	l.learn(experiments.PastStage{Kind: s.Kind, Params: l.stages[s.Name].Params, Seconds: s.Result.Seconds})
}

// of says how long a run still takes: as many stages at a time as run now. It is
// "" where nothing is known yet.
func (l *timeLeft) of(v lab.RunView) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var work, longest float64
	parallel, unknown, left := 0, 0, 0
	for _, s := range v.Stages {
		if over(s.Status) {
			continue
		}
		left++
		p := v.Running[s.Name]
		guess := l.estimator.Estimate(l.stages[s.Name])
		seconds, known := guess.Seconds, guess.Past > 0
		if s.Status == workflows.StageRunning {
			parallel++
			if l.began[s.Name].IsZero() {
				l.began[s.Name] = time.Now()
			}
			seconds = max(seconds-time.Since(l.began[s.Name]).Seconds(), 0)
			if p.ETASeconds > 0 {
				seconds, known = p.ETASeconds, true
			}
		}
		if !known {
			unknown++
		}
		work += seconds
		longest = max(longest, seconds)
	}
	left -= unknown
	switch seconds := max(work/float64(max(parallel, 1)), longest); {
	case left == 0 || seconds == 0:
		return ""
	case unknown > 0:
		return "more than " + roughly(seconds) + " left"
	default:
		return "about " + roughly(seconds) + " left"
	}
}

// roughly writes a time as people say it.
func roughly(seconds float64) string {
	switch {
	case seconds < 100:
		return fmt.Sprintf("%.0f s", math.Ceil(seconds))
	case seconds < 100*60:
		return fmt.Sprintf("%.0f min", seconds/60)
	default:
		return fmt.Sprintf("%d h %02d min", int(seconds)/3600, int(seconds)/60%60)
	}
}
