package experiments

import (
	"strings"
	"testing"
)

func TestCardOf(t *testing.T) {
	for model, want := range map[string]string{
		"NVIDIA H100 80GB HBM3": "h100", "nvidia-h200": "h200", "NVIDIA A100-SXM4-80GB": "a100-80",
		"NVIDIA GeForce RTX 4090": "4090", "NVIDIA A100-PCIE-40GB": "", "Tesla T4": "",
	} {
		if got, _ := CardOf(model); got.Name != want {
			t.Errorf("%s is taken for %q, want %q", model, got.Name, want)
		}
	}
	if _, err := FindCard("v100"); err == nil || !strings.Contains(err.Error(), "h100, h200") {
		t.Errorf("an unknown card: error %v, want one that lists the known ones", err)
	}
}

// TestCardForecast: the presets for 7B and 8B fit a card of 80 GB, and one of 24 GB with layers computed again and short
// packs; a faster card takes less time.
func TestCardForecast(t *testing.T) {
	forecast := func(card, preset string, sets ...string) (Forecast, string, Card) {
		t.Helper()
		c, err := FindCard(card)
		if err != nil {
			t.Fatal(err)
		}
		e := mustLoad(t, preset, sets...)
		shape, ok := KnownShape(e.Backbone.Path)
		if !ok {
			t.Fatalf("the shape of %s is not known", e.Backbone.Path)
		}
		f, err := c.Forecast(Planned(mustPlan(t, preset, sets...), nil), &e, shape, ESConvTurns(0))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := WriteCardForecast(&text, c, f, &e); err != nil {
			t.Fatal(err)
		}
		return f, text.String(), c
	}
	for _, preset := range []string{"qwen2.5-7b", "llama3.1-8b"} {
		f, text, card := forecast("h100", preset)
		if f.Bytes > usableMemory*card.Memory || strings.Contains(text, "too much") {
			t.Errorf("%s takes %.0f GB of an h100, want at most %.0f:\n%s", preset, f.Bytes/1e9, usableMemory*card.Memory/1e9, text)
		}
		for _, want := range []string{"sft/rg ", "mine/sp ", "assumed: ", "TB/s"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the forecast does not say %q:\n%s", preset, want, text)
			}
		}
		t.Log("\n" + text)
		slower, _, _ := forecast("a100-80", preset)
		if slower.Total() <= f.Total() {
			t.Errorf("%s takes %.0f s on an a100-80, %.0f s on an h100", preset, slower.Total(), f.Total())
		}
	}
	if f, text, card := forecast("4090", "qwen2.5-7b"); f.Bytes < card.Memory || !strings.Contains(text, "too much") || !strings.Contains(text, "memory: recompute") {
		t.Errorf("as it is, qwen2.5-7b is said to take %.0f GB on a 4090:\n%s", f.Bytes/1e9, text)
	}
	if f, text, card := forecast("4090", "qwen2.5-7b", "memory=recompute", "limits.pack_tokens=2048", "limits.decode_batch=16"); f.Bytes > usableMemory*card.Memory {
		t.Errorf("with layers computed again, packs of 2,048 and 16 replies qwen2.5-7b takes %.1f GB on a 4090:\n%s", f.Bytes/1e9, text)
	}
}
