package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/lm"
)

// Export writes a workload's sequences as they are, unpacked, to NAME.jsonl in
// dir, one example a line: {"ids", "loss_from"} for single turns, {"prompt",
// "chosen", "rejected"} for pairs. order lists the examples; nil: as prepared.
func Export(dir string, w Workload, order []int) error {
	path := filepath.Join(dir, w.Name+".jsonl")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export %s: %w", w.Name, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("export %s: %w", w.Name, err)
	}
	if order == nil {
		for i := range w.Examples {
			order = append(order, i)
		}
	}
	out := bufio.NewWriter(f)
	encode := json.NewEncoder(out)
	for _, i := range order {
		if err := encode.Encode(line(w.Examples[i])); err != nil {
			f.Close()
			return fmt.Errorf("export %s: %w", path, err)
		}
	}
	if err := out.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("export %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("export %s: %w", path, err)
	}
	return nil
}

// ExportConfig writes the model's config.json into dir.
func ExportConfig(dir string, c lm.Config) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export configuration: %w", err)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("export configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("export configuration: %w", err)
	}
	return nil
}

// turnLine and pairLine are the lines of an export.
type turnLine struct {
	IDs      []int32 `json:"ids"`
	LossFrom int     `json:"loss_from"`
}

type pairLine struct {
	Prompt   []int32 `json:"prompt"`
	Chosen   []int32 `json:"chosen"`
	Rejected []int32 `json:"rejected"`
}

func line(e lm.Example) any {
	first := e.Sequences[0]
	if len(e.Sequences) == 1 {
		return turnLine{first.Tokens, first.LossFrom}
	}
	second := e.Sequences[1]
	return pairLine{first.Tokens[:first.LossFrom], first.Tokens[first.LossFrom:], second.Tokens[second.LossFrom:]}
}
