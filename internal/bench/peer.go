package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/esclab/esclab/lm"
)

// A Peer is another project's program that trains and generates with the same
// shapes on the same token data, to be measured beside ours. Its commands are
//
//	bench --config FILE --data FILE --kind sft|dpo --batch N --steps N --rank N --threads N
//	generate --config FILE --prompt N --new N --batch N --threads N
//
// and it prints one JSON object with the fields of PeerTraining or PeerGeneration.
type Peer struct {
	Command []string // the program and its first arguments
	Threads int
}

// PeerTraining is what a peer measured of training steps, the first left out.
type PeerTraining struct {
	SamplesPerSecond float64 `json:"samples_per_second"`
	TokensPerSecond  float64 `json:"tokens_per_second"` // of the sequences as they are, without padding
	MedianStep       float64 `json:"median_step"`       // seconds
	PeakMiB          int64   `json:"peak_rss_mb"`
	Loss             float64 `json:"loss"`
}

// PeerGeneration is what a peer measured of greedy decoding with a cache.
type PeerGeneration struct {
	PrefillTokensPerSecond float64 `json:"prefill_tokens_per_second"`
	DecodeTokensPerSecond  float64 `json:"decode_tokens_per_second"`
}

// Train has the peer take the steps that options describe on an export of the
// workload: config and data are the files of ExportConfig and Export.
func (p Peer) Train(ctx context.Context, config, data string, w Workload, options TrainingOptions) (PeerTraining, error) {
	kind := "sft"
	if w.Preference {
		kind = "dpo"
	}
	var r PeerTraining
	err := p.run(ctx, &r, "bench", "--config", config, "--data", data, "--kind", kind, "--batch", strconv.Itoa(options.Batch),
		"--steps", strconv.Itoa(options.Steps), "--rank", strconv.Itoa(options.Rank))
	if err == nil && r.SamplesPerSecond <= 0 {
		err = errors.New("it reports no samples_per_second")
	}
	if err != nil {
		return r, fmt.Errorf("peer on %s: %w", w.Name, err)
	}
	return r, nil
}

// Generate has the peer decode batch random prompts of prompt tokens greedily
// to new tokens each.
func (p Peer) Generate(ctx context.Context, config string, prompt, new, batch int) (PeerGeneration, error) {
	var r PeerGeneration
	err := p.run(ctx, &r, "generate", "--config", config, "--prompt", strconv.Itoa(prompt), "--new", strconv.Itoa(new), "--batch", strconv.Itoa(batch))
	if err == nil && r.DecodeTokensPerSecond <= 0 {
		err = errors.New("it reports no decode_tokens_per_second")
	}
	if err != nil {
		return r, fmt.Errorf("peer on generation: %w", err)
	}
	return r, nil
}

func (p Peer) run(ctx context.Context, result any, args ...string) error {
	args = slices.Concat(p.Command, args, []string{"--threads", strconv.Itoa(p.Threads)})
	fail := func(format string, values ...any) error {
		return fmt.Errorf("%s: "+format, append([]any{strings.Join(args, " ")}, values...)...)
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		return fail("%w", err)
	}
	command := belowShell(ctx, args)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(problems.String()), "\n")
		return fail("%w: %s", err, lines[len(lines)-1])
	}
	if err := json.Unmarshal(out.Bytes(), result); err != nil {
		return fail("it did not print one JSON object: %w", err)
	}
	return nil
}

// belowShell is a command that runs a program as a child of a shell. A child of
// our own would begin with our peak: Linux counts the memory that a process has
// before exec, which is its parent's, into its ru_maxrss, and that is where
// programs read the peak that they report. A shell has a few MiB.
func belowShell(ctx context.Context, args []string) *exec.Cmd {
	// The program is not the script's last command, because some shells replace
	// themselves by that.
	command := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `"$@"; exit $?`, "sh"}, args...)...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second // for pipes that a process outside the group holds
	return command
}

// Spread summarises a figure over rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf summarises at least one value.
func SpreadOf(values []float64) Spread {
	return Spread{median(values), slices.Min(values), slices.Max(values)}
}

// Comparison is a workload measured on both sides in turns.
type Comparison struct {
	Workload string     `json:"workload"`
	Packing  lm.Packing `json:"packing"` // ours; the peer pads each sequence of a batch to the longest
	Unit     string     `json:"unit"`
	Rounds   int        `json:"rounds"`

	Ours  Spread `json:"ours"`
	Peer  Spread `json:"peer"`
	Ratio Spread `json:"ratio"` // of the two sides of a round

	PeakMiB     int64 `json:"peak_mib,omitempty"` // the highest of all rounds
	PeerPeakMiB int64 `json:"peer_peak_mib,omitempty"`
}

// Compare summarises the two sides of the same rounds.
func Compare(workload string, packing lm.Packing, unit string, ours, peer []float64) Comparison {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / peer[i]
	}
	return Comparison{Workload: workload, Packing: packing, Unit: unit, Rounds: len(ours),
		Ours: SpreadOf(ours), Peer: SpreadOf(peer), Ratio: SpreadOf(ratios)}
}
