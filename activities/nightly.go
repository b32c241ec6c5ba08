package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/nightly"
	"github.com/esclab/esclab/workflows"
)

// Nightly is what a worker brings to the nights of schedules.
type Nightly struct {
	// Revision is the build of this program.
	Revision string
	// Newest is a command that prints the newest revision there is; empty: the
	// worker does not know of any but its own.
	Newest []string
	// Webhooks are the addresses that may be told, by prefix.
	Webhooks []string
	// Secret goes to them as a bearer token; "": none does.
	Secret func() string
	// Directories are where files may be written. A relative name is relative
	// to the first.
	Directories []string
}

// newestLimit bounds the command for the newest revision.
const newestLimit = time.Minute

// Directories of a schedule's files in the store.
const nightsDir = "nights/"

// PlanNight plans a schedule's experiment as this worker has it tonight: a
// preset of this program, or the experiment that the schedule was made with,
// by this program's code. What is to be measured anew has fingerprints that no
// other night has; an attempt of the same night has the same ones.
func (a *Activities) PlanNight(ctx context.Context, in workflows.Night) (workflows.NightPlan, error) {
	defer startPulse(ctx).end() // hashing a checkpoint of many gigabytes takes a while
	plan, err := a.planNight(ctx, in)
	if err != nil {
		return workflows.NightPlan{}, classify(fmt.Errorf("plan %s: %w", in.Experiment.Name, err))
	}
	return plan, nil
}

func (a *Activities) planNight(ctx context.Context, in workflows.Night) (workflows.NightPlan, error) {
	plan := workflows.NightPlan{Revision: a.Nightly.Revision, Host: hostname(), Cores: runtime.NumCPU(), Load: load()}
	exp, err := a.nightExperiment(ctx, in)
	if err != nil {
		return plan, err
	}
	p, err := exp.Prepare(a.Host(ctx))
	if err = errors.Join(err, p.Missing); err != nil {
		// Somebody has to put the file there: better to say so at once.
		return plan, badInput(err)
	}
	kinds, err := experiments.FreshKinds(in.Fresh)
	if err != nil {
		return plan, badInput(fmt.Errorf("fresh: %w", err))
	}
	if err := experiments.Freshen(p.Stages, kinds, in.Workflow); err != nil {
		return plan, err
	}
	if plan.Setup, err = experiments.Setup(p.Stages); err != nil {
		return plan, err
	}
	plan.Run = workflows.NewRunInput(p, in.Queues, in.HeartbeatSeconds, workflows.Facts{Revision: plan.Revision, Attributes: in.Attributes},
		workflows.Origin{Command: "esclab schedule " + in.Schedule, Build: plan.Revision})
	plan.RunID = plan.Run.WorkflowID()
	if len(kinds) == 0 { // its stages are those of a run that somebody may have under way
		plan.RunID = workflows.NightRunWorkflowID(exp.Name, in.Name())
	}
	plan.Newest = a.newest(ctx)
	return plan, nil
}

// nightExperiment reads the experiment: a preset of this program, or what the
// store has under the digest that the schedule names.
func (a *Activities) nightExperiment(ctx context.Context, in workflows.Night) (experiments.Experiment, error) {
	from := in.Experiment
	if from.Preset != "" {
		if !slices.Contains(experiments.Presets(), from.Preset) { // anything else would be a file of this machine
			return experiments.Experiment{}, badInput(fmt.Errorf("this program has no preset %q, only %s", from.Preset, strings.Join(experiments.Presets(), ", ")))
		}
		exp, err := experiments.Load(from.Preset, from.Set...)
		if err != nil {
			return exp, badInput(err)
		}
		return exp, nil
	}
	data, err := a.Store.GetScheduleFile(ctx, in.Schedule, from.File)
	if errors.Is(err, artifacts.ErrNotFound) {
		return experiments.Experiment{}, badInput(fmt.Errorf("%w; make the schedule again", err))
	}
	if err != nil {
		return experiments.Experiment{}, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != from.SHA256 {
		return experiments.Experiment{}, badInput(fmt.Errorf("%s of schedule %s is not the experiment that the schedule was made with; make it again", from.File, in.Schedule))
	}
	exp, err := experiments.Read(from.Name+".yaml", data)
	if err != nil {
		return exp, badInput(err)
	}
	return exp, nil
}

// newest asks for the newest revision; what it cannot learn it says instead.
func (a *Activities) newest(ctx context.Context) string {
	if len(a.Nightly.Newest) == 0 {
		return ""
	}
	ctx, stop := context.WithTimeout(ctx, newestLimit)
	defer stop()
	out, err := exec.CommandContext(ctx, a.Nightly.Newest[0], a.Nightly.Newest[1:]...).Output()
	if err != nil {
		a.Log.Warn().Err(err).Strs("command", a.Nightly.Newest).Msg("the newest revision is not known")
		return "unknown: " + err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// RecordNight compares a night with those before it and stores its record and
// its report.
func (a *Activities) RecordNight(ctx context.Context, in workflows.RecordInput) (workflows.NightResult, error) {
	defer startPulse(ctx).end()
	result, err := a.recordNight(ctx, in)
	if err != nil {
		return result, classify(fmt.Errorf("record night %s of %s: %w", in.Night.Name(), in.Night.Schedule, err))
	}
	return result, nil
}

func (a *Activities) recordNight(ctx context.Context, in workflows.RecordInput) (workflows.NightResult, error) {
	night, c := in.Night, in.Night.Compare
	r := nightly.Record{
		Schedule: night.Schedule, Night: night.Name(), Workflow: night.Workflow, Run: in.Plan.RunID, Report: in.Report,
		Started: night.Started, Finished: night.Finished, Experiment: night.Experiment.Name,
		Revision: in.Plan.Revision, Newest: in.Plan.Newest, Setup: in.Plan.Setup, Fresh: night.Fresh, Error: in.Error,
		Machine: nightly.Machine{Host: in.Plan.Host, Cores: in.Plan.Cores, LoadBefore: in.Plan.Load},
	}
	if in.Plan.Host == hostname() {
		r.Machine.LoadAfter = load()
	}
	for _, s := range in.Result.Stages {
		kind, _, _ := strings.Cut(s.Stage, "/")
		kind, _, _ = strings.Cut(kind, "@") // of one of several seeds
		r.Stages = append(r.Stages, nightly.Stage{
			Name: s.Stage, Kind: kind, Fingerprint: s.Fingerprint, Digest: s.Digest, Engine: s.Engine,
			Seconds: s.Seconds, Tokens: s.Metrics["tokens"], Reused: s.Reused, Resumed: s.Resumed,
		})
	}
	if in.Error == "" {
		var err error
		if r.Systems, r.Effects, err = a.nightSystems(ctx, in.Report); err != nil {
			return workflows.NightResult{}, err
		}
	}
	past, notes, err := a.pastNights(ctx, r, c.Window)
	if err != nil {
		return workflows.NightResult{}, err
	}
	r.Judgement = nightly.Compare(r, past, nightly.Options{Window: c.Window, MinNights: c.MinNights, Noise: c.Noise, Slack: c.Slack})
	r.Notes = append(r.Notes, notes...)

	result := workflows.NightResult{Verdict: string(r.Verdict), Effects: r.EffectsLine(), Headline: r.Headline(), Night: r.Night, Run: r.Run}
	data, err := r.Encode()
	if err != nil {
		return result, err
	}
	if result.Report, err = a.putNight(ctx, r, ".md", []byte(r.Markdown())); err != nil {
		return result, err
	}
	// Last: a night counts once its record is there.
	if result.Record, err = a.putNight(ctx, r, ".json", data); err != nil {
		return result, err
	}
	a.Log.Info().Str("schedule", r.Schedule).Str("night", r.Night).Str("verdict", result.Verdict).Msg(result.Headline)
	return result, nil
}

func (a *Activities) putNight(ctx context.Context, r nightly.Record, ext string, data []byte) (workflows.StoredFile, error) {
	ref, err := a.Store.PutScheduleFile(ctx, r.Schedule, nightsDir+r.Night+ext, data)
	return workflows.StoredFile{Key: ref.Key, SHA256: ref.SHA256, Bytes: ref.Bytes}, err
}

// nightSystems reads the run's Table 3 with its intervals, and its headline.
func (a *Activities) nightSystems(ctx context.Context, fingerprint string) ([]nightly.System, []nightly.Effect, error) {
	from, err := results.Open(ctx, a.Store, fingerprint)
	if err != nil {
		return nil, nil, fmt.Errorf("the run's report: %w", err)
	}
	var data struct { // of another worker's version perhaps: with other columns
		Systems []struct {
			report.Row
			Columns map[string]*float64 `json:"columns"`
		} `json:"systems"`
		Headline []report.Effect `json:"headline"`
	}
	if err := results.ReadJSON(from, results.FileReport, &data); err != nil {
		return nil, nil, fmt.Errorf("the run's report: %w", err)
	}
	var effects []nightly.Effect
	for _, e := range data.Headline {
		if e.Difference != nil && e.Low != nil && e.High != nil {
			effects = append(effects, nightly.Effect{Name: e.Measure.Short(), System: e.System, Against: e.Against, Difference: *e.Difference, Low: *e.Low, High: *e.High})
		}
	}
	var systems []nightly.System
	for _, row := range data.Systems {
		system := nightly.System{Name: row.System()}
		for _, interval := range row.Intervals {
			if value := row.Columns[interval.Column]; value != nil {
				column, _ := experiments.FindColumn(interval.Column)
				system.Metrics = append(system.Metrics, nightly.Metric{
					Name: interval.Column, Value: *value, Low: interval.Low, High: interval.High, Smaller: column.Smaller,
				})
			}
		}
		systems = append(systems, system)
	}
	return systems, effects, nil
}

// pastNights reads the records before a night, the newest first, until window
// of them can be compared. The notes name those that cannot be read.
func (a *Activities) pastNights(ctx context.Context, night nightly.Record, window int) (past []nightly.Record, notes []string, err error) {
	names, err := a.Store.ListScheduleFiles(ctx, night.Schedule)
	if err != nil {
		return nil, nil, err
	}
	same := 0
	for _, name := range slices.Backward(names) {
		at, ok := strings.CutSuffix(strings.TrimPrefix(name, nightsDir), ".json")
		if !ok || !strings.HasPrefix(name, nightsDir) || at >= night.Night {
			continue
		}
		if same >= window || len(past) >= 4*window+10 {
			break
		}
		data, err := a.Store.GetScheduleFile(ctx, night.Schedule, name)
		if err == nil {
			var r nightly.Record
			if r, err = nightly.Decode(data); err == nil {
				past = append(past, r)
				if r.Setup == night.Setup && r.Error == "" {
					same++
				}
				continue
			}
		} else if !errors.Is(err, artifacts.ErrCorrupt) && !errors.Is(err, artifacts.ErrNotFound) {
			return nil, nil, err
		}
		a.Log.Warn().Err(err).Str("schedule", night.Schedule).Str("night", at).Msg("a record cannot be read and does not count")
		notes = append(notes, fmt.Sprintf("the record of night %s cannot be read and does not count", at))
	}
	return past, notes, nil
}
