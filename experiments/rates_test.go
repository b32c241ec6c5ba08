package experiments

import (
	"strings"
	"testing"
)

// esconvTurns are the supporter's turns of so many dialogues of each split: 14.2 a dialogue, as in ESConv.
func esconvTurns(train, valid, test float64) Turns {
	return Turns{Train: 14.2 * train, Valid: 14.2 * valid, Test: 14.2 * test}
}

// TestPresetsFitTheirTime: by the measured rates, smollm2-135m ends in an evening and smollm2-135m-full in a weekend.
func TestPresetsFitTheirTime(t *testing.T) {
	for name, c := range map[string]struct {
		turns       Turns
		least, most float64 // hours
	}{
		"smollm2-135m":      {esconvTurns(60, 60, 60), 1, 3},
		"smollm2-135m-full": {esconvTurns(1040, 130, 130), 8, 36},
	} {
		f, err := TwoCores.Forecast(Planned(mustPlan(t, name), nil), TwoCores.Parameters, c.turns)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", name, f)
		if hours := f.Total() / 3600; hours < c.least || hours > c.most {
			t.Errorf("%s takes %.1f h by the measured rates, want %v to %v h: %s", name, hours, c.least, c.most, f)
		}
	}
}

// TestForecast: what bounds a stage bounds its time, and a larger model takes longer.
func TestForecast(t *testing.T) {
	turns := esconvTurns(100, 10, 10)
	total := func(parameters float64, sets ...string) Forecast {
		f, err := TwoCores.Forecast(Planned(mustPlan(t, "smollm2-135m", sets...), nil), parameters, turns)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	whole := total(TwoCores.Parameters)
	for _, c := range []struct {
		kind Kind
		set  string
	}{
		{KindSFT, "sft.max_steps=10"}, {KindDPO, "dpo.max_steps=10"}, {KindMine, "mining.max_turns=20"}, {KindMine, "mining.samples.rg=1"},
		{KindReference, "mining.max_turns=20"}, {KindGenerate, "generation.max_turns=10"}, {KindGenerate, "generation.max_new_tokens=8"}, {KindGenerate, "methods=[base]"},
	} {
		if f := total(TwoCores.Parameters, c.set); f.Seconds[c.kind] >= whole.Seconds[c.kind] {
			t.Errorf("with %s, %s takes %.0f s, want less than %.0f s", c.set, c.kind, f.Seconds[c.kind], whole.Seconds[c.kind])
		}
	}
	if f := total(10 * TwoCores.Parameters); f.Total() < 9.99*whole.Total() || f.Bytes < 9.99*whole.Bytes {
		t.Errorf("ten times the parameters take %s, want ten times %s", f, whole)
	}
	if text := whole.String(); !strings.Contains(text, "of computing: sft ") || !strings.HasSuffix(text, "GiB") {
		t.Errorf("it says %q, want the kinds and the memory", text)
	}
}
