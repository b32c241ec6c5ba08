//go:build chaos

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"
)

// What a campaign is told; make chaos sets them.
const (
	envChaosSeed  = "ESCLAB_CHAOS_SEED"
	envChaosKills = "ESCLAB_CHAOS_KILLS"
	envChaosLog   = "ESCLAB_CHAOS_LOG" // file for the events; empty: standard output
)

// chaosEvery is the campaign's checkpoint.every_steps: every training stage of
// demo has some of them.
const chaosEvery = 3

// TestCampaign runs the demo experiment, its trainings cut to half, kills what makes it up so many times,
// and compares what comes out with an undisturbed run.
func TestCampaign(t *testing.T) {
	number := func(variable string, otherwise uint64) uint64 {
		text := os.Getenv(variable)
		if text == "" {
			return otherwise
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("$%s: %v", variable, err)
		}
		return n
	}
	seed, kills := number(envChaosSeed, 1), int(number(envChaosKills, 100))
	log := io.Writer(os.Stdout)
	if name := os.Getenv(envChaosLog); name != "" {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		log = f
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute+time.Duration(kills)*time.Minute)
	defer stop()
	account := campaign(t, ctx, seed, kills, chaosEvery, log, "demo", "demo",
		"--set", "engine=go", "--set", "backbone.tiny.pretrain.epochs=6", "--set", "sft.epochs=2", "--set", fmt.Sprintf("checkpoint.every_steps=%d", chaosEvery))
	if kills < 40 { // not every stage is hit twice then
		return
	}
	for _, stage := range []string{"base", "sft/vm", "sft/sp", "sft/rg", "dpo/vm/all", "dpo/sp", "dpo/rg"} {
		if n := account.Within[stage]; n < 2 {
			t.Errorf("stage %s was killed %d times within an epoch, want 2", stage, n)
		}
	}
}
