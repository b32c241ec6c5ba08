package settings

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/esclab/esclab/experiments"
)

// Schedule declares a recurring experiment.
type Schedule struct {
	ID         string   `yaml:"id"`
	Experiment string   `yaml:"experiment"` // preset, or path of an experiment
	Set        []string `yaml:"set"`        // overrides, as path=value
	Cron       string   `yaml:"cron"`       // five fields, UTC
	Overlap    string   `yaml:"overlap"`    // one of Overlaps; default skip
	// CatchupWindow is how late, after an outage, a missed night is still
	// started; default 1h, at most 24h.
	CatchupWindow  time.Duration `yaml:"catchup_window"`
	PauseOnFailure bool          `yaml:"pause_on_failure"`
	Paused         bool          `yaml:"paused"`
	Note           string        `yaml:"note"`

	// Fresh says which stages are computed again although their artifacts are in
	// the store: all (the default), none, or kinds separated by commas.
	Fresh string `yaml:"fresh"`
	// Window is how many nights before it a night is compared with; default 14.
	Window int `yaml:"window"`
	// MinNights is how many of them the comparison of speed needs; default 3.
	MinNights int `yaml:"min_nights"`
	// Noise is how many median absolute deviations (scaled to standard
	// deviations) a stage's time may be off; default 4.
	Noise float64 `yaml:"noise"`
	// Slack is the share of its usual time that it may be off in any case;
	// default 0.1.
	Slack float64 `yaml:"slack"`

	Webhook string `yaml:"webhook"` // URL that is told the verdict; empty: none
	File    string `yaml:"file"`    // file on the worker that is written with it; empty: none
}

// Nightly is what a worker brings to the nights of schedules.
type Nightly struct {
	// Newest is a command that prints the newest revision there is.
	Newest []string `yaml:"newest"`
	// Webhooks are prefixes of the addresses that schedules may have called.
	Webhooks []string `yaml:"webhooks"`
	// SecretEnv names the environment variable whose value is sent to them as a
	// bearer token.
	SecretEnv string `yaml:"secret_env"`
	// Directories, besides nightly/ in the data directory, are where schedules
	// may have files written.
	Directories []string `yaml:"directories"`
}

// Overlaps are the accepted values of Schedule.Overlap, named after Temporal's
// ScheduleOverlapPolicy.
var Overlaps = []string{"skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"}

// maxCatchup bounds Schedule.CatchupWindow, because after a long outage nobody
// wants the benchmarks of a month at once.
const maxCatchup = 24 * time.Hour

// DefaultSchedule is a schedule with the defaults of what need not be given.
func DefaultSchedule() Schedule {
	// Temporal's own catch-up window is a year.
	return Schedule{Overlap: "skip", CatchupWindow: time.Hour, Fresh: experiments.FreshAll, Window: 14, MinNights: 3, Noise: 4, Slack: 0.1}
}

// fill gives what is absent its default.
func (c *Schedule) fill() {
	d := DefaultSchedule()
	if c.Overlap == "" {
		c.Overlap = d.Overlap
	}
	if c.CatchupWindow == 0 {
		c.CatchupWindow = d.CatchupWindow
	}
	if c.Fresh == "" {
		c.Fresh = d.Fresh
	}
	if c.Window == 0 {
		c.Window = d.Window
	}
	if c.MinNights == 0 {
		c.MinNights = d.MinNights
	}
	if c.Noise == 0 {
		c.Noise = d.Noise
	}
	if c.Slack == 0 {
		c.Slack = d.Slack
	}
}

var scheduleID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Check fills in what is absent and says what is wrong: the key and what to do.
func (c *Schedule) Check() (key, message string) {
	c.fill()
	_, cronErr := cron.ParseStandard(c.Cron)
	_, freshErr := experiments.FreshKinds(c.Fresh)
	switch {
	case !scheduleID.MatchString(c.ID):
		return "id", fmt.Sprintf("%q: name the schedule: letters, digits, '.', '_' and '-', at most 63", c.ID)
	case c.Experiment == "":
		return "experiment", "empty: name a preset or an experiment file"
	case cronErr != nil || strings.Contains(c.Cron, "="): // TZ=… is for others than UTC
		return "cron", fmt.Sprintf("%q: five fields, minute hour day month weekday, in UTC (for example \"0 22 * * *\": 22:00 every day)", c.Cron)
	case !slices.Contains(Overlaps, c.Overlap):
		return "overlap", fmt.Sprintf("%q: one of %s", c.Overlap, strings.Join(Overlaps, ", "))
	case c.CatchupWindow < 10*time.Second:
		return "catchup_window", "below Temporal's minimum of 10s"
	case c.CatchupWindow > maxCatchup:
		return "catchup_window", fmt.Sprintf("%s: at most %s, or an outage would be followed by all that it has missed", c.CatchupWindow, maxCatchup)
	case freshErr != nil:
		return "fresh", freshErr.Error()
	case c.Window < 1 || c.Window > 365:
		return "window", "1 to 365 nights"
	case c.MinNights < 1 || c.MinNights > c.Window:
		return "min_nights", "at least 1, and at most the window"
	case c.Noise < 0:
		return "noise", "a number of median absolute deviations"
	case c.Slack < 0 || c.Slack > 10:
		return "slack", "a share of the usual time, for example 0.1"
	case c.Webhook != "" && !isWebhook(c.Webhook):
		return "webhook", "not a URL like https://hooks.example.org/nightly"
	}
	return "", ""
}

func isWebhook(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

func (s *Settings) scheduleProblems() (out []problem) {
	seen := make(map[string]bool)
	for i := range s.Schedules {
		c := &s.Schedules[i]
		at := fmt.Sprintf("schedules[%d].", i)
		switch key, message := c.Check(); {
		case key != "":
			out = append(out, problem{at + key, message})
		case seen[c.ID]:
			out = append(out, problem{at + "id", fmt.Sprintf("%q is given twice", c.ID)})
		}
		seen[c.ID] = true
	}
	return out
}

func (s *Settings) nightlyProblems() (out []problem) {
	n := s.Nightly
	for i, hook := range n.Webhooks {
		if !isWebhook(hook) {
			out = append(out, problem{fmt.Sprintf("nightly.webhooks[%d]", i), "not an address like https://hooks.example.org/nightly"})
		}
	}
	switch {
	case n.SecretEnv != "" && !variableName.MatchString(n.SecretEnv):
		out = append(out, problem{"nightly.secret_env", "not the name of an environment variable: put the secret into a variable and give the variable's name"})
	case n.SecretEnv != "" && len(n.Webhooks) == 0:
		out = append(out, problem{"nightly.secret_env", "without nightly.webhooks nobody is sent it: list the addresses that may have it"})
	}
	return out
}
