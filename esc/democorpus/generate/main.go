// Command generate writes the demo corpus from a small grammar: same seed,
// same bytes. Run it from the repository's root, or by go generate.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
)

func main() {
	output := flag.String("o", "esc/democorpus/demo.json", "file to write")
	flag.Parse()
	data, err := generate(democorpus.Seed, democorpus.Dialogues)
	if err == nil {
		err = os.WriteFile(*output, data, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate returns n dialogues as JSON in ESConv's layout.
func generate(seed uint64, n int) ([]byte, error) {
	var dialogues []esc.Dialogue
	for i := range n {
		dialogues = append(dialogues, writeDialogue(seed, i))
	}
	var buf bytes.Buffer
	if err := esc.WriteDialogues(&buf, dialogues); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
